"""A training job, as Vertex AI starts it, leaves a good model and says how good it is."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from tests.support import datasets
from tests.support.training import TrainedModel, run_trainer

pytestmark = pytest.mark.slow

CATEGORIES = {
    "is_male": ["False", "True", "Unknown"],
    "plurality": ["Single(1)", "Twins(2)", "Triplets(3)", "Multiple(2+)"],
}


def as_matrix(table: pa.Table) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    categories = [[CATEGORIES[name].index(value) for value in table[name].to_pylist()] for name in CATEGORIES]
    numbers = [table[name].to_pylist() for name in ("mother_age", "gestation_weeks")]
    return np.array([*categories, *numbers], np.float64).T, np.array(table["weight_pounds"].to_pylist())


def test_held_out_error_is_within_2_percent_of_gradient_boosting(trained: TrainedModel) -> None:
    """With default settings the model is as good as a boosted-tree reference on the same rows."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    split = datasets.births()
    features, label = as_matrix(split.train)
    reference = HistGradientBoostingRegressor(categorical_features=[0, 1], random_state=0).fit(features, label)
    held_out, truth = as_matrix(split.evaluation)
    reference_rmse = float(np.sqrt(np.mean((reference.predict(held_out) - truth) ** 2)))
    print(f"held-out RMSE {trained.metrics['rmse_lb']:.4f} lb, gradient boosting {reference_rmse:.4f} lb")
    assert trained.metrics["rmse_lb"] <= reference_rmse * 1.02


def test_metrics_are_those_of_the_held_out_split(trained: TrainedModel) -> None:
    """Counts and baseline follow from the dataset; the steps from num_train_examples."""
    split = datasets.births()
    truth = np.array(split.evaluation["weight_pounds"].to_pylist())
    mean = np.mean(split.train["weight_pounds"].to_pylist())
    metrics = trained.metrics
    assert metrics["eval_examples"] == len(split.evaluation)
    assert metrics["train_examples"] + metrics["validation_examples"] == len(split.train)
    assert metrics["baseline_rmse_lb"] == pytest.approx(float(np.sqrt(np.mean((truth - mean) ** 2))), rel=1e-5)
    assert metrics["mae_lb"] < metrics["rmse_lb"] < metrics["baseline_rmse_lb"]
    assert metrics["steps"] == 500_000 // metrics["batch_size"]
    assert metrics["unknown_categories"] == {}


def test_all_artifacts_are_there_and_metrics_came_last(trained: TrainedModel) -> None:
    """SavedModel, Keras and LiteRT files and the schema; the metrics' presence means that they are whole."""
    names = {path.relative_to(trained.model_dir).as_posix() for path in trained.model_dir.rglob("*") if path.is_file()}
    assert names >= {
        "saved_model.pb",
        "variables/variables.index",
        "model.keras",
        "model.tflite",
        "instance_schema.json",
        "smoke.json",
        "metrics.json",
    }
    assert (trained.model_dir / "metrics.json").stat().st_mtime_ns == max(
        (trained.model_dir / name).stat().st_mtime_ns for name in names
    )


def test_progress_and_tensorboard_tell_each_evaluation(trained: TrainedModel) -> None:
    """progress.json holds the newest evaluation; TensorBoard's events hold all ten."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    progress = json.loads((trained.output / "logs" / "progress.json").read_text())
    assert (progress["fraction"], progress["step"]) == (1.0, progress["steps"])
    assert progress["metrics"]["validation_rmse_lb"] > 0
    (events,) = (trained.output / "logs").glob("events.out.tfevents.*")
    tags = [(event.step, value.tag) for event in EventFileLoader(str(events)).Load() for value in event.summary.value]
    steps = [step for step, tag in tags if tag == "validation_rmse_lb"]
    assert len(steps) == 10
    assert steps[-1] == trained.metrics["steps"]


def test_a_dataset_without_a_manifest_is_refused_in_the_last_log_line(tmp_path: Path) -> None:
    """Exit code 2, a line with value, place and mend, and nothing written."""
    code, log = run_trainer(str(tmp_path / "nowhere"), str(tmp_path / "out"))
    assert code == 2
    last = log[-1]
    assert (last["level"], last["action"]) == ("ERROR", "training.refused")
    assert (last["value"], last["place"]) == ("manifest.json", str(tmp_path / "nowhere"))
    assert "--dataset" in last["mend"]
    assert not (tmp_path / "out").exists()


def test_a_cluster_and_a_bad_flag_are_refused_in_the_last_log_line(tmp_path: Path) -> None:
    """What cannot be done is said before anything is read."""
    cluster = json.dumps({"cluster": {"workerpool0": ["a:1"], "workerpool1": ["b:1"]}})
    code, log = run_trainer("unused", str(tmp_path), extra={"CLUSTER_SPEC": cluster})
    assert (code, log[-1]["place"]) == (2, "CLUSTER_SPEC")
    code, log = run_trainer("unused", str(tmp_path), ["--batch-size", "0"])
    assert (code, log[-1]["place"]) == (2, "--batch-size")
