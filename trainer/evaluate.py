"""Measure a network on rows that it was not trained on, in the label's own unit."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.features import Features

_ROWS_PER_CALL = 65_536  # bounds the memory of one call; the result does not depend on it


class Predictor:
    """Run a network over many rows, with the same last layers as in the exported model.

    Args:
        label_model: from the network's output to the label's unit.
    """

    def __init__(self, network: keras.Model, label_model: keras.Model) -> None:
        self._forward = tf.function(
            lambda features: label_model(network(features, training=False)), reduce_retracing=True
        )

    def predict(self, features: Features) -> npt.NDArray[np.float64]:
        """float64, shape (rows,), in the label's unit."""
        rows = len(next(iter(features.values())))
        parts = [self._forward(_slice(features, start)).numpy() for start in range(0, rows, _ROWS_PER_CALL)]
        return np.concatenate(parts).astype(np.float64)


def _slice(features: Features, start: int) -> dict[str, Any]:
    return {name: tf.constant(values[start : start + _ROWS_PER_CALL]) for name, values in features.items()}


@dataclass(frozen=True)
class Errors:
    """How far predictions are from the truth, in the label's unit.

    Attributes:
        baseline_rmse: of always predicting the training split's mean.
    """

    rmse: float
    mae: float
    baseline_rmse: float


def measure(predictions: npt.NDArray[np.float64], label: npt.NDArray[np.float32], training_mean: float) -> Errors:
    """Compare predictions with the label; all of shape (rows,)."""
    truth = label.astype(np.float64)
    difference = predictions - truth
    return Errors(
        rmse=root_mean_square(difference),
        mae=float(np.mean(np.abs(difference))),
        baseline_rmse=root_mean_square(truth - training_mean),
    )


def root_mean_square(difference: npt.NDArray[np.float64]) -> float:
    """In the unit of the argument."""
    return float(np.sqrt(np.mean(np.square(difference))))


def choose_rows(rows: int, most: int, seed: int) -> npt.NDArray[np.int64]:
    """Which held-out rows to measure: all, or a seeded sample of `most` without repetition (0 means all)."""
    if most == 0 or most >= rows:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
