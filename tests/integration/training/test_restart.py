"""Two runs agree, also when one of them was killed on the way."""

import signal
from pathlib import Path

import pytest

from tests.support import datasets
from tests.support.training import TrainedModel, json_lines, run_trainer, start_trainer
from tests.support.waiting import wait_until

# Several starts of TensorFlow in a row: seconds on a quiet machine, a minute or more on a crowded one.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

FLAGS = ["--num-train-examples", "1000000", "--num-evals", "30", "--seed", "7"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return datasets.write_dataset(tmp_path_factory.mktemp("slice"), datasets.births(limit=1_000))


def newest_step(output: Path) -> int:
    names = [path.stem for path in (output / "checkpoints").glob("checkpoint-*.npz")]
    return max((int(name.removeprefix("checkpoint-")) for name in names), default=0)


def stop_after_more_steps(dataset: Path, output: Path, number: signal.Signals) -> tuple[int, str]:
    """Start a job, wait until it has written some checkpoints of its own, and signal it."""
    before = newest_step(output)
    job = start_trainer(str(dataset), str(output), FLAGS)
    try:
        wait_until(lambda: newest_step(output) > before + 100 or job.poll() is not None, 120, "checkpoints")
        job.send_signal(number)
        _, log = job.communicate(timeout=120)
    finally:
        job.kill()
    return job.returncode, log


def test_a_killed_job_goes_on_from_its_checkpoint_and_ends_as_if_nothing_had_happened(
    dataset: Path, tmp_path: Path
) -> None:
    """kill -9, then SIGTERM, then to the end: the metrics are byte for byte those of an undisturbed run."""
    undisturbed = start_trainer(str(dataset), str(tmp_path / "undisturbed"), FLAGS)
    output = tmp_path / "killed"
    code, _ = stop_after_more_steps(dataset, output, signal.SIGKILL)
    assert code == -signal.SIGKILL
    killed_at = newest_step(output)
    assert not (output / "model" / "metrics.json").exists()

    code, log = stop_after_more_steps(dataset, output, signal.SIGTERM)
    assert code == 143
    assert json_lines(log)[-1]["action"] == "training.interrupted"
    assert [line["step"] for line in json_lines(log) if line["action"] == "training.resumed"] == [killed_at]
    terminated_at = newest_step(output)
    assert terminated_at > killed_at

    code, lines = run_trainer(str(dataset), str(output), FLAGS)
    assert code == 0, lines[-1]
    assert [line["step"] for line in lines if line["action"] == "training.resumed"] == [terminated_at]
    assert min(line["step"] for line in lines if line["action"] == "evaluation.done") > terminated_at

    _, log = undisturbed.communicate(timeout=120)
    assert undisturbed.returncode == 0, log
    assert_same(tmp_path / "undisturbed" / "model", output / "model")


def test_two_runs_with_one_seed_agree(dataset: Path, tmp_path: Path) -> None:
    """Metrics and LiteRT file are the same bytes."""
    jobs = [start_trainer(str(dataset), str(tmp_path / name), ["--num-train-examples", "20000"]) for name in "ab"]
    for job in jobs:
        _, log = job.communicate(timeout=120)
        assert job.returncode == 0, log
    assert_same(tmp_path / "a" / "model", tmp_path / "b" / "model")


def assert_same(left: Path, right: Path) -> None:
    assert (left / "metrics.json").read_text() == (right / "metrics.json").read_text()
    assert model_bytes(left) == model_bytes(right)


def model_bytes(directory: Path) -> bytes:
    return (directory / "model.tflite").read_bytes()


def test_a_checkpoint_of_other_settings_is_refused(trained: TrainedModel, tmp_path: Path) -> None:
    """Nobody trains on from a state that was made with other settings, and the log says which differ.

    The metrics of an earlier run in that place are gone: they do not vouch for the one that failed.
    """
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "metrics.json").write_text("{}")
    flags = ["--checkpoint-dir", str(trained.output / "checkpoints"), "--learning-rate", "0.1"]
    code, log = run_trainer(str(trained.dataset), str(tmp_path), flags)
    assert code == 2
    assert log[-1]["value"] == {"learning_rate": 0.002}
    assert not (tmp_path / "model" / "metrics.json").exists()
