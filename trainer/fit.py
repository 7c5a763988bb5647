"""Everything between a dataset in memory and the artifacts: build, train, measure, export. Imports TensorFlow."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer import logs
from trainer.checkpoint import Checkpoints, TrainingState
from trainer.data import CategoryColumn, Columns, take
from trainer.evaluate import Predictor, choose_rows, measure
from trainer.export import (
    as_json,
    check_agreement,
    export_model,
    instance_schema,
    predict_saved_model,
    smoke_sample,
)
from trainer.features import column_models, compute
from trainer.job import Dataset
from trainer.model import build_label_model, build_network, build_serving_model, label_deviation
from trainer.options import Options
from trainer.progress import Progress
from trainer.storage import Directory, open_directory, write_tree
from trainer.train import Rows, Training

__all__ = ["as_json", "fit_and_export"]

_AGREEMENT_ROWS = 1_000


@dataclass(frozen=True)
class _Models:
    """The parts that the exported model is put together from."""

    columns: dict[str, keras.Model]
    network: keras.Model
    label: keras.Model
    predictor: Predictor


def fit_and_export(
    options: Options, dataset: Dataset, target: Directory, is_interrupted: Callable[[], bool]
) -> dict[str, Any]:
    """Train and write all artifacts but the metrics.

    Returns:
        The metrics. They hold no times, so that two runs with the same settings and data write the same bytes.
    """
    _make_repeatable(options)
    devices = [device.name for device in tf.config.list_logical_devices()]
    logs.info("training.started", steps=options.steps, devices=devices)
    models = _build(options, dataset)
    state = _train(options, dataset, models, is_interrupted)
    metrics = _measure(options, dataset, models, state)
    _export(options, dataset, models, target)
    return metrics


def _build(options: Options, dataset: Dataset) -> _Models:
    network = build_network(dataset.spec, dataset.manifest, options.seed)
    label = build_label_model(dataset.spec, dataset.manifest)
    return _Models(column_models(dataset.spec, dataset.manifest), network, label, Predictor(network, label))


def _export(options: Options, dataset: Dataset, models: _Models, target: Directory) -> None:
    sample = take(dataset.held_out, _sample_rows(dataset, options.seed))
    del sample[dataset.spec.label]
    with tempfile.TemporaryDirectory(prefix="trainer-model-") as scratch:
        directory = Path(scratch)
        export_model(build_serving_model(dataset.spec, models.columns, models.network, models.label), directory)
        predictions = predict_saved_model(directory, sample, dataset.spec.label)
        difference = check_agreement(directory, sample, predictions, dataset.spec.label)
        write_tree(directory, target)
    target.write("smoke.json", as_json(smoke_sample(sample, predictions, dataset.spec, dataset.manifest)))
    target.write("instance_schema.json", as_json(instance_schema(dataset.spec, dataset.manifest)))
    logs.info("model.exported", model_dir=target.uri, litert_difference=difference)


def _sample_rows(dataset: Dataset, seed: int) -> npt.NDArray[np.int64]:
    """Held-out rows to try the exported files with: a seeded choice, and a row of every category there is."""
    rows = [choose_rows(dataset.rows(dataset.held_out), _AGREEMENT_ROWS, seed)]
    for column in dataset.held_out.values():
        if isinstance(column, CategoryColumn):
            rows.append(np.unique(column.codes, return_index=True)[1])
    return np.unique(np.concatenate(rows))


def _make_repeatable(options: Options) -> None:
    """Same seed, same data, same result, to the last bit on one machine."""
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(options.seed)


def _rows(dataset: Dataset, models: _Models, columns: Columns) -> Rows:
    label = columns[dataset.spec.label]
    assert not isinstance(label, CategoryColumn)
    return Rows(compute(models.columns, columns), label)


def _train(
    options: Options,
    dataset: Dataset,
    models: _Models,
    is_interrupted: Callable[[], bool],
) -> TrainingState:
    checkpoints = _checkpoints(options, dataset)
    state = checkpoints.latest() if checkpoints else None
    if state:
        logs.info("training.resumed", step=state.step, steps=options.steps, checkpoint_dir=options.checkpoint_dir)
    progress = Progress(open_directory(options.log_dir), options.steps) if options.log_dir else None
    if progress:
        progress.begin(state.step if state else 0)
    unit = dataset.manifest.units.get(dataset.spec.label, "")

    def report(evaluation: dict[str, float]) -> None:
        if progress:
            progress.report(int(evaluation["step"]), _with_unit(evaluation, unit))

    try:
        training = Training(
            models.network,
            _rows(dataset, models, dataset.train),
            _rows(dataset, models, dataset.validation),
            options,
            predictor=models.predictor,
            mean=dataset.manifest.numbers[dataset.spec.label].mean,
            deviation=label_deviation(dataset.manifest, dataset.spec),
            save=checkpoints.save if checkpoints else lambda state: None,
            report=report,
            is_interrupted=is_interrupted,
        )
        return training.run(state)
    finally:
        if progress:
            progress.close()


def _checkpoints(options: Options, dataset: Dataset) -> Checkpoints | None:
    if not options.checkpoint_dir:
        return None
    settings = ("model", "num_train_examples", "num_evals", "learning_rate", "batch_size", "seed")
    identity = {name: getattr(options, name) for name in settings} | {"dataset_digest": dataset.manifest.digest}
    return Checkpoints(open_directory(options.checkpoint_dir), identity)


def _with_unit(evaluation: dict[str, float], unit: str) -> dict[str, float]:
    """Metrics in the label's unit carry it in their name."""
    return {
        (f"{name}_{unit}" if name == "validation_rmse" and unit else name): value
        for name, value in evaluation.items()
        if name != "step"
    }


def _measure(
    options: Options,
    dataset: Dataset,
    models: _Models,
    state: TrainingState,
) -> dict[str, Any]:
    label = dataset.manifest.numbers[dataset.spec.label]
    chosen = choose_rows(dataset.rows(dataset.held_out), options.num_eval_examples, options.seed)
    rows = _rows(dataset, models, take(dataset.held_out, chosen))
    errors = measure(models.predictor.predict(rows.features), rows.label, label.mean)
    best = min(state.evaluations, key=lambda evaluation: evaluation["validation_rmse"])
    unit = dataset.manifest.units.get(dataset.spec.label, "")
    suffix = f"_{unit}" if unit else ""
    return {
        f"rmse{suffix}": errors.rmse,
        f"mae{suffix}": errors.mae,
        f"baseline_rmse{suffix}": errors.baseline_rmse,
        f"validation_rmse{suffix}": best["validation_rmse"],
        "eval_examples": len(chosen),
        "train_examples": dataset.rows(dataset.train),
        "validation_examples": dataset.rows(dataset.validation),
        "examples_drawn": options.steps * options.effective_batch_size,
        "steps": options.steps,
        "best_step": int(best["step"]),
        "model": options.model,
        "seed": options.seed,
        "learning_rate": options.learning_rate,
        "batch_size": options.effective_batch_size,
        "unknown_categories": dataset.unknown,
        "dataset": options.dataset,
        "dataset_digest": dataset.manifest.digest,
    }
