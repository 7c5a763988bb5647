"""Keep the training state in the checkpoint directory, so that a pre-empted job goes on where it stopped.

One state is one NumPy archive in one file, because a single object is written atomically in a bucket as well as on a
disk: a kill at any moment leaves whole checkpoints only. The archive holds plain arrays (no pickle) and one JSON text.
"""

import io
import json
import zipfile
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer import logs
from trainer.errors import CheckpointMismatch
from trainer.storage import Directory

_PREFIX = "checkpoint-"
_SUFFIX = ".npz"
_KEEP = 2  # the newest, and the one before it should the newest be unreadable

Arrays = list[npt.NDArray[Any]]


@dataclass
class TrainingState:
    """All that a later process needs to go on as if nothing had happened.

    Attributes:
        step: steps done.
        weights: the network's, as of `step`.
        optimizer: its variables, the step counter of the learning rate among them.
        best_weights: as of the evaluation with the lowest validation error; empty before the first evaluation.
        evaluations: one entry for each evaluation so far, oldest first.
    """

    step: int = 0
    weights: Arrays = field(default_factory=list)
    optimizer: Arrays = field(default_factory=list)
    best_weights: Arrays = field(default_factory=list)
    evaluations: list[dict[str, float]] = field(default_factory=list)


class Checkpoints:
    """The states of one run, in one directory.

    Args:
        identity: what makes the run this run (settings and data). A state with another identity is refused.
    """

    def __init__(self, directory: Directory, identity: dict[str, Any]) -> None:
        self._directory = directory
        self._identity: dict[str, Any] = json.loads(json.dumps(identity))

    def save(self, state: TrainingState) -> None:
        """Write one state and remove those no longer needed."""
        arrays = {
            f"{group}/{number:03d}": array
            for group in ("weights", "optimizer", "best_weights")
            for number, array in enumerate(getattr(state, group))
        }
        facts = {"identity": self._identity, "step": state.step, "evaluations": state.evaluations}
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, facts=np.array(json.dumps(facts)), **arrays)
        self._directory.write(f"{_PREFIX}{state.step:012d}{_SUFFIX}", buffer.getvalue())
        for name in self._names()[_KEEP:]:
            self._directory.delete(name)

    def latest(self) -> TrainingState | None:
        """The newest readable state, or None where there is none.

        Raises:
            CheckpointMismatch: it belongs to a run with other settings or other data.
        """
        for name in self._names():
            try:
                with np.load(io.BytesIO(self._directory.read(name)), allow_pickle=False) as archive:
                    return self._state(archive, name)
            except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
                logs.warning(
                    "checkpoint.unreadable",
                    file=name,
                    place=self._directory.uri,
                    reason=str(error),
                    mend="the one before it is used",
                )
        return None

    def _names(self) -> list[str]:
        """Newest first; the step is zero-padded, so that names sort as numbers."""
        return [name for name in reversed(self._directory.names(_PREFIX)) if name.endswith(_SUFFIX)]

    def _state(self, archive: Any, name: str) -> TrainingState:
        facts = json.loads(str(archive["facts"]))
        self._check_identity(facts["identity"], name)

        def group(prefix: str) -> Arrays:
            return [archive[key] for key in sorted(archive.files) if key.startswith(f"{prefix}/")]

        return TrainingState(
            step=int(facts["step"]),
            weights=group("weights"),
            optimizer=group("optimizer"),
            best_weights=group("best_weights"),
            evaluations=facts["evaluations"],
        )

    def _check_identity(self, found: dict[str, Any], name: str) -> None:
        names = sorted(self._identity.keys() | found.keys())
        differing = {key: found.get(key) for key in names if found.get(key) != self._identity.get(key)}
        if differing:
            expected = {key: self._identity.get(key) for key in differing}
            raise CheckpointMismatch(
                "the checkpoint was made by another run",
                value=differing,
                place=f"{self._directory.uri}/{name}",
                mend=f"use {expected} as that run did not, with an empty checkpoint directory, or repeat its settings",
            )
