"""The wide-and-deep network, from features to a standardised label, and the exported model around it.

Wide: one weight for each bucket, category and cross of the two, which memorises. Deep: a small multilayer perceptron
over the scaled numbers and the categories, which generalises. Their sum is the prediction.
Source: Cheng et al., "Wide & Deep Learning for Recommender Systems", 2016.
"""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops

from trainer.features import UNKNOWN_INDEX, bucket_boundaries, bucket_name, index_name, scaled_name
from trainer.manifest import Manifest
from trainer.spec import ModelSpec


def build_network(spec: ModelSpec, manifest: Manifest, seed: int) -> keras.Model:
    """The trainable part.

    Returns:
        A model from {feature: shape (batch,)} (features.py) to float32, shape (batch,): the label in standard
        deviations from the training split's mean.
    """
    inputs: dict[str, Any] = {}
    buckets: dict[str, tuple[Any, int]] = {}
    for number in spec.numbers:
        inputs[scaled_name(number.name)] = _input(scaled_name(number.name), "float32")
        bucket = inputs[bucket_name(number.name)] = _input(bucket_name(number.name), "int32")
        buckets[number.name] = (bucket, len(bucket_boundaries(number, manifest.numbers[number.name])) + 1)
    shares: dict[str, Any] = {}
    for category in spec.categories:
        index = inputs[index_name(category.name)] = _input(index_name(category.name), "int32")
        shares[category.name] = _shares(category.name, list(manifest.categories[category.name].values()), index)
    scaled = [ops.expand_dims(inputs[scaled_name(number.name)], -1) for number in spec.numbers]
    deep = _deep([*scaled, *shares.values()], spec.hidden_units, seed)
    total = layers.Add(name="wide_and_deep")([deep, *_wide(spec, buckets, shares)])
    return keras.Model(inputs, ops.squeeze(total, -1), name=spec.name)


def _input(name: str, dtype: str) -> Any:
    return keras.Input((), dtype=dtype, name=name)


def share_table(counts: list[int]) -> npt.NDArray[np.float32]:
    """How much of each category one row has; float32, shape (categories + 1, categories).

    A known category has one whole share. Row 0 is the unknown: the training split's frequencies, so that a category
    never seen is predicted as the average one, and no weight is used that was never trained.
    """
    frequencies = np.asarray(counts, np.float32) / np.float32(sum(counts))
    assert UNKNOWN_INDEX == 0
    return np.vstack([frequencies, np.eye(len(counts), dtype=np.float32)])


def _shares(name: str, counts: list[int], index: Any) -> Any:
    table = share_table(counts)
    lookup = layers.Embedding(*table.shape, weights=[table], trainable=False, name=f"{name}_shares")
    return lookup(index)


def _deep(parts: list[Any], hidden_units: tuple[int, ...], seed: int) -> Any:
    hidden = layers.Concatenate(name="deep_inputs")(parts)
    for number, units in enumerate(hidden_units):
        start = keras.initializers.GlorotUniform(seed=seed + number)
        hidden = layers.Dense(units, "relu", kernel_initializer=start, name=f"deep_{number}")(hidden)
    start = keras.initializers.GlorotUniform(seed=seed + len(hidden_units))
    return layers.Dense(1, kernel_initializer=start, name="deep_sum")(hidden)


def _wide(spec: ModelSpec, buckets: dict[str, tuple[Any, int]], shares: dict[str, Any]) -> list[Any]:
    """Terms of shape (batch, 1), all starting from zero."""
    terms = []
    for name, (bucket, size) in buckets.items():
        terms.append(layers.Embedding(size, 1, embeddings_initializer="zeros", name=f"wide_{name}")(bucket))
    for name, share in shares.items():
        weights = layers.Dense(1, use_bias=False, kernel_initializer="zeros", name=f"wide_{name}")
        terms.append(weights(share))
    for number, category in spec.crosses:
        bucket, size = buckets[number]
        share = shares[category]
        weights = layers.Embedding(
            size, share.shape[-1], embeddings_initializer="zeros", name=f"wide_{number}_x_{category}"
        )
        terms.append(ops.sum(weights(bucket) * share, axis=-1, keepdims=True))
    return terms


def build_label_model(spec: ModelSpec, manifest: Manifest) -> keras.Model:
    """From the network's output to the label's unit; float32, shape (batch,) on either side.

    An answer stays within what the training split held: for triplets of 17 weeks, which nobody has seen, the sum of all
    the parts would be less than nothing.
    """
    label = manifest.numbers[spec.label]
    standardised = keras.Input((), dtype="float32", name=f"{spec.label}_standardised")
    value = standardised * label_deviation(manifest, spec) + label.mean
    return keras.Model(standardised, ops.clip(value, label.minimum, label.maximum), name=spec.label)


def build_serving_model(
    spec: ModelSpec,
    column_models: dict[str, keras.Model],
    network: keras.Model,
    label_model: keras.Model,
) -> keras.Model:
    """The exported model, with everything before and behind the network inside.

    Returns:
        A model from {raw field: shape (batch,)} to {label: float32, shape (batch,)} in the label's unit.
    """
    raw = {name: _input(name, "float32") for name in (number.name for number in spec.numbers)}
    raw |= {name: _input(name, "string") for name in (category.name for category in spec.categories)}
    features: dict[str, Any] = {}
    for name, model in column_models.items():
        features |= model(raw[name])
    return keras.Model(raw, {spec.label: label_model(network(features))}, name=f"{spec.name}_serving")


def label_deviation(manifest: Manifest, spec: ModelSpec) -> float:
    """The unit of the network's output; 1 where the label is constant."""
    return manifest.numbers[spec.label].standard_deviation or 1.0
