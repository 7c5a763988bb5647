"""Run the trainer as a process, and share one trained model among the tests of a session."""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import datasets

ROOT = Path(__file__).parents[2]


def trainer_environment(output: str, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables that Vertex AI sets for a job with this baseOutputDirectory."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("AIP_")}
    return plain | {
        "AIP_MODEL_DIR": f"{output}/model/",
        "AIP_CHECKPOINT_DIR": f"{output}/checkpoints/",
        "AIP_TENSORBOARD_LOG_DIR": f"{output}/logs/",
        **(extra or {}),
    }


def start_trainer(
    dataset: str, output: str, flags: Sequence[str] = (), extra: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start a training job; its log is on stderr."""
    return subprocess.Popen(
        [sys.executable, "-m", "trainer.task", "--dataset", dataset, *flags],
        cwd=ROOT,
        env=trainer_environment(output, extra),
        stderr=subprocess.PIPE,
        text=True,
    )


def run_trainer(
    dataset: str, output: str, flags: Sequence[str] = (), extra: Mapping[str, str] | None = None
) -> tuple[int, list[dict[str, Any]]]:
    """Run a training job to its end; returns its exit code and its log's JSON lines."""
    process = start_trainer(dataset, output, flags, extra)
    _, errors = process.communicate(timeout=250)
    return process.returncode, json_lines(errors)


def json_lines(text: str) -> list[dict[str, Any]]:
    """The JSON lines of a log; TensorFlow's own lines are passed over."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


@dataclass(frozen=True)
class TrainedModel:
    """What one training job with default settings on the whole sample left behind."""

    dataset: Path
    output: Path

    @property
    def model_dir(self) -> Path:
        return self.output / "model"

    @property
    def metrics(self) -> dict[str, Any]:
        metrics: dict[str, Any] = json.loads((self.model_dir / "metrics.json").read_text())
        return metrics


def trained_model(factory: pytest.TempPathFactory) -> TrainedModel:
    """Train once per session, also when several test processes share it."""
    base = factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    trained = TrainedModel(shared / "trained-dataset", shared / "trained")
    with open(shared / "trained.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (trained.model_dir / "metrics.json").exists():
            datasets.write_dataset(trained.dataset, datasets.births())
            code, log = run_trainer(str(trained.dataset), str(trained.output))
            assert code == 0, log[-1:]
    return trained
