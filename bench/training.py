"""How long a training job takes: `python bench/training.py DATASET_DIRECTORY [JOBS]`.

JOBS jobs with default settings run side by side, as in the demo; each prints where its time went.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
MARKS = (
    "dataset.read",
    "tensorflow.imported",
    "training.started",
    "evaluation.done",
    "model.exported",
    "training.finished",
)


def start(dataset: str, output: Path) -> subprocess.Popen[str]:
    """Start one job."""
    environment = os.environ | {
        "AIP_MODEL_DIR": str(output / "model"),
        "AIP_CHECKPOINT_DIR": str(output / "checkpoints"),
        "AIP_TENSORBOARD_LOG_DIR": str(output / "logs"),
    }
    command = [sys.executable, "-m", "trainer.task", "--dataset", str(Path(dataset).resolve())]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def report(log: str) -> None:
    """One line of times, one of results."""
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    times = {line["action"]: datetime.fromisoformat(line["time"]) for line in lines}  # the last of each action
    steps = [f"{mark} +{(times[mark] - times[MARKS[0]]).total_seconds():.2f} s" for mark in MARKS[1:] if mark in times]
    print("  from dataset.read:", ", ".join(steps))
    rates = [line["examples_per_second"] for line in lines if line["action"] == "evaluation.done"]
    last = lines[-1]
    if last["action"] != "training.finished":
        sys.exit(json.dumps(last))
    print(f"  held-out RMSE {last['rmse_lb']:.4f} lb, baseline {last['baseline_rmse_lb']:.4f} lb,", end=" ")
    print(f"{sorted(rates)[len(rates) // 2]:,} examples/s while training")


def main(dataset: str, jobs: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        began_at = time.perf_counter()
        processes = [start(dataset, Path(scratch) / str(number)) for number in range(jobs)]
        logs = [process.communicate()[1] for process in processes]
        print(f"{jobs} job(s) side by side: {time.perf_counter() - began_at:.1f} s")
        for log in logs:
            report(log)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: python bench/training.py DATASET_DIRECTORY [JOBS]")
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) == 3 else 1)
