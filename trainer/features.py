"""Turn raw columns into features: the same layers before training and inside the exported model.

Each raw column has a small Keras model of its own, without trainable weights. Before training it runs once over the
whole column (over the distinct values only, where they are strings); the export puts it in front of the network. There is
no second implementation that could differ from the first.

Only operations that LiteRT has as builtins are used: a string is compared with each known category, because Keras's
StringLookup becomes a hash table that LiteRT cannot convert (TensorFlow 2.21).
"""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops

from trainer.data import CategoryColumn, Columns
from trainer.manifest import Manifest, NumberStatistics
from trainer.spec import CategoryField, ModelSpec, NumberField

UNKNOWN_INDEX = 0
"""The named bucket: a category which the training split does not hold. The network sees it as the average category."""

Features = dict[str, npt.NDArray[Any]]


def index_name(column: str) -> str:
    """The feature that holds a category's index: 0 is unknown, the others follow the manifest, from 1."""
    return f"{column}_index"


def scaled_name(column: str) -> str:
    """The feature that holds a number with mean 0 and deviation 1."""
    return f"{column}_scaled"


def bucket_name(column: str) -> str:
    """The feature that holds the number's bucket, from 0."""
    return f"{column}_bucket"


def bucket_boundaries(field: NumberField, statistics: NumberStatistics) -> list[float]:
    """Where one bucket ends and the next begins: whole steps from the lowest value that training saw to its highest."""
    steps = int((statistics.maximum - statistics.minimum) // field.bucket_width)
    return [statistics.minimum + (step + 0.5) * field.bucket_width for step in range(max(steps, 1))]


def column_models(spec: ModelSpec, manifest: Manifest) -> dict[str, keras.Model]:
    """For each raw column a model from its values, shape (n,), to a dict of features, each of shape (n,)."""
    models = {}
    for number in spec.numbers:
        models[number.name] = _number_model(number, manifest.numbers[number.name])
    for category in spec.categories:
        models[category.name] = _category_model(category, list(manifest.categories[category.name]))
    return models


def _number_model(field: NumberField, statistics: NumberStatistics) -> keras.Model:
    raw = keras.Input((), dtype="float32", name=field.name)
    # Beyond the range of the training rows the network would extrapolate without bound.
    seen = ops.clip(raw, statistics.minimum, statistics.maximum)
    deviation = statistics.standard_deviation
    scale = 1.0 / deviation if deviation > 0 else 0.0  # a constant column becomes all zeros
    features = {
        scaled_name(field.name): (seen - statistics.mean) * scale,
        bucket_name(field.name): layers.Discretization(
            bin_boundaries=bucket_boundaries(field, statistics), name=bucket_name(field.name)
        )(seen),
    }
    return keras.Model(raw, features, name=f"{field.name}_features")


def _category_model(field: CategoryField, vocabulary: list[str]) -> keras.Model:
    raw = keras.Input((), dtype="string", name=field.name)
    index = sum(ops.cast(ops.equal(raw, value), "int32") * (place + 1) for place, value in enumerate(vocabulary))
    return keras.Model(raw, {index_name(field.name): index}, name=f"{field.name}_features")


def compute(models: dict[str, keras.Model], columns: Columns) -> Features:
    """Run each column's model over the whole column, once.

    Returns:
        {feature: int32 or float32, shape (rows,)}.
    """
    features: Features = {}
    for name, model in models.items():
        column = columns[name]
        if isinstance(column, CategoryColumn):
            distinct = model(ops.convert_to_tensor(column.values, dtype="string"))
            features |= {key: ops.convert_to_numpy(value)[column.codes] for key, value in distinct.items()}
        else:
            whole = model(ops.convert_to_tensor(column))
            features |= {key: ops.convert_to_numpy(value) for key, value in whole.items()}
    return {key: np.ascontiguousarray(_narrow(value)) for key, value in features.items()}


def _narrow(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return values.astype(np.int32 if np.issubdtype(values.dtype, np.integer) else np.float32, copy=False)
