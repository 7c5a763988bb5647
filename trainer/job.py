"""One training job from dataset to artifacts.

TensorFlow is imported only after the dataset has been read and checked, so that a mistake costs a second, not five.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trainer import logs, registry
from trainer.data import Columns, read_columns, refuse_unlisted, split_validation, take, unknown_categories
from trainer.manifest import Manifest, read_manifest
from trainer.options import Options
from trainer.spec import ModelSpec
from trainer.start import starting_tensorflow
from trainer.storage import open_directory

METRICS = "metrics.json"


@dataclass(frozen=True)
class Dataset:
    """All rows of one job, in memory.

    Attributes:
        train, validation: parts of the training split; the second only chooses the best evaluation.
        held_out: the eval split, which nothing is chosen by.
        unknown: categories of the held-out rows that the training split does not hold: {column: {value: rows}}.
    """

    spec: ModelSpec
    manifest: Manifest
    train: Columns
    validation: Columns
    held_out: Columns
    unknown: dict[str, dict[str, int]]

    def rows(self, part: Columns) -> int:
        """How many rows one part has."""
        return len(part[self.spec.label])


def run(options: Options, is_interrupted: Callable[[], bool] = lambda: False) -> dict[str, Any]:
    """Train, measure and export; the metrics are written last, so that their presence means success.

    Returns:
        The content of `metrics.json`.

    Raises:
        TrainerError: the job cannot be done as asked.
        Interrupted: `is_interrupted` said so, and a checkpoint was written.
    """
    started_at = time.monotonic()
    dataset = load(options)
    target = open_directory(options.model_dir)
    if METRICS in target.names(METRICS):  # listing also tells now, not after training, that there is no such bucket
        target.delete(METRICS)  # of an earlier run into the same directory: it must not vouch for this one
    logs.info(
        "dataset.read",
        dataset=options.dataset,
        train_rows=dataset.rows(dataset.train),
        validation_rows=dataset.rows(dataset.validation),
        eval_rows=dataset.rows(dataset.held_out),
        duration_s=round(time.monotonic() - started_at, 3),
    )

    began_import_at = time.monotonic()
    with starting_tensorflow():
        from trainer.fit import as_json, fit_and_export
    logs.info("tensorflow.imported", duration_s=round(time.monotonic() - began_import_at, 3))
    metrics = fit_and_export(options, dataset, target, is_interrupted)
    target.write(METRICS, as_json(metrics))
    logs.info("training.finished", model_dir=target.uri, duration_s=round(time.monotonic() - started_at, 3), **metrics)
    return metrics


def load(options: Options) -> Dataset:
    """Read and check the whole dataset.

    Raises:
        TrainerError: it is missing, empty, or not what its manifest says.
    """
    spec = registry.find(options.model)
    directory = open_directory(options.dataset)
    manifest = read_manifest(directory, spec)
    training = read_columns(directory, manifest.train_files, manifest.train_rows, spec)
    refuse_unlisted(training, manifest, spec)
    held_out = read_columns(directory, manifest.eval_files, manifest.eval_rows, spec)
    unknown = unknown_categories(held_out, manifest, spec)
    if unknown:
        logs.warning(
            "dataset.unknown_categories",
            values=unknown,
            place="eval split",
            mend="they are predicted as the average category; more training data would hold them",
        )
    train_rows, validation_rows = split_validation(training, spec)
    return Dataset(spec, manifest, take(training, train_rows), take(training, validation_rows), held_out, unknown)
