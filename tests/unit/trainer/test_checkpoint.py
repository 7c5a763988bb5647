"""A training state survives, whatever happens between two writes."""

from pathlib import Path

import numpy as np
import pytest

from trainer.checkpoint import Checkpoints, TrainingState
from trainer.errors import CheckpointMismatch
from trainer.storage import LocalDirectory

IDENTITY = {"seed": 1, "learning_rate": 0.002, "dataset_digest": "sha256:ab"}


def state_at(step: int) -> TrainingState:
    return TrainingState(
        step=step,
        weights=[np.full((2, 3), step, np.float32), np.zeros(1, np.float32)],
        optimizer=[np.array(step, np.int64)],
        best_weights=[np.ones(1, np.float32)],
        evaluations=[{"step": step, "validation_rmse": 1.0}],
    )


def test_the_newest_state_comes_back_whole(tmp_path: Path) -> None:
    """Every array and number of the last state written is read again."""
    checkpoints = Checkpoints(LocalDirectory(tmp_path), IDENTITY)
    assert checkpoints.latest() is None
    for step in (9, 10, 100):
        checkpoints.save(state_at(step))
    found = checkpoints.latest()
    assert found is not None
    expected = state_at(100)
    assert (found.step, found.evaluations) == (expected.step, expected.evaluations)
    for group in ("weights", "optimizer", "best_weights"):
        for left, right in zip(getattr(found, group), getattr(expected, group), strict=True):
            np.testing.assert_array_equal(left, right)
            assert left.dtype == right.dtype


def test_only_the_last_two_are_kept(tmp_path: Path) -> None:
    """A long training does not fill the bucket."""
    checkpoints = Checkpoints(LocalDirectory(tmp_path), IDENTITY)
    for step in (1, 2, 3):
        checkpoints.save(state_at(step))
    assert len(list(tmp_path.iterdir())) == 2


def test_an_unreadable_newest_state_gives_way_to_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A damaged file costs some steps, not the training; the log says so."""
    checkpoints = Checkpoints(LocalDirectory(tmp_path), IDENTITY)
    checkpoints.save(state_at(1))
    checkpoints.save(state_at(2))
    newest = max(tmp_path.iterdir())
    newest.write_bytes(newest.read_bytes()[:100])
    found = checkpoints.latest()
    assert found is not None
    assert found.step == 1


def test_a_state_of_another_run_is_refused(tmp_path: Path) -> None:
    """Going on from other settings would train something that nobody asked for; the difference is named."""
    Checkpoints(LocalDirectory(tmp_path), IDENTITY).save(state_at(1))
    other = Checkpoints(LocalDirectory(tmp_path), IDENTITY | {"learning_rate": 0.1})
    with pytest.raises(CheckpointMismatch, match=r"learning_rate.*0\.002.*checkpoint-0+1\.npz"):
        other.latest()
