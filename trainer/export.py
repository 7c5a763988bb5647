"""Write the trained model in the three forms that readers want, and what a server needs to know of it.

- SavedModel, at the root of the model directory, where Vertex AI's prebuilt containers look for it;
- `model.keras`, to load in a notebook;
- `model.tflite`, LiteRT, which the prediction server runs without TensorFlow.

Beside them lie `instance_schema.json` and `smoke.json`, some real rows with the model's answers. All three models take raw
fields: {"is_male": "True", "mother_age": 26.6, ...}.
"""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from trainer.data import CategoryColumn, Column, Columns
from trainer.errors import ExportError
from trainer.manifest import Manifest
from trainer.spec import ModelSpec

SAVED_MODEL_SIGNATURE = "serving_default"
_SMOKE_ROWS = 8
AGREEMENT = 1e-5
"""The most by which the SavedModel and LiteRT may differ, in the label's unit."""


def export_model(model: keras.Model, directory: Path) -> None:
    """Write SavedModel, model.keras and model.tflite into an empty local directory."""
    with contextlib.redirect_stdout(io.StringIO()):  # Keras prints a report that no reader of JSON lines asked for
        model.export(directory, format="tf_saved_model", verbose=False)
    model.save(directory / "model.keras")
    converter = tf.lite.TFLiteConverter.from_saved_model(str(directory), signature_keys=[SAVED_MODEL_SIGNATURE])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]  # the server has no other operations
    (directory / "model.tflite").write_bytes(converter.convert())


def predict_saved_model(directory: Path, raw: Columns, label: str) -> npt.NDArray[np.float32]:
    """Run the exported SavedModel on raw rows; float32, shape (rows,), in the label's unit."""
    saved = tf.saved_model.load(str(directory)).signatures[SAVED_MODEL_SIGNATURE]
    predictions: npt.NDArray[np.float32] = saved(
        **{name: tf.constant(_raw_values(column)) for name, column in raw.items()}
    )[label].numpy()
    return predictions


def check_agreement(directory: Path, raw: Columns, expected: npt.NDArray[np.float32], label: str) -> float:
    """Run the exported LiteRT model on the rows that the SavedModel has predicted.

    Returns:
        Their largest difference, in the label's unit.

    Raises:
        ExportError: it is more than `AGREEMENT`.
    """
    runner = Interpreter(model_path=str(directory / "model.tflite"), num_threads=1)
    found = runner.get_signature_runner(SAVED_MODEL_SIGNATURE)(
        **{name: _raw_values(column) for name, column in raw.items()}
    )[label]
    difference = float(np.max(np.abs(expected - found)))
    if not difference <= AGREEMENT:
        raise ExportError(
            f"the LiteRT model differs from the SavedModel by more than {AGREEMENT}",
            value=difference,
            place="model.tflite",
            mend="report this with the versions of tensorflow and ai-edge-litert; do not serve this model",
        )
    return difference


def _raw_values(column: Column) -> npt.NDArray[Any]:
    return np.array(column.strings(), dtype=object) if isinstance(column, CategoryColumn) else column


def smoke_sample(
    raw: Columns, predictions: npt.NDArray[np.float32], spec: ModelSpec, manifest: Manifest
) -> dict[str, list[Any]]:
    """Real rows with the model's own answers, for whoever wants to know that an endpoint serves this model.

    Only rows that a server accepts are taken, and of those some of each category.
    """
    acceptable = np.ones(len(predictions), bool)
    strings: dict[str, npt.NDArray[Any]] = {}
    for number in spec.numbers:
        values = np.asarray(raw[number.name])
        acceptable &= (values >= number.minimum) & (values <= number.maximum)
    for category in spec.categories:
        strings[category.name] = _raw_values(raw[category.name])
        acceptable &= np.isin(strings[category.name].astype(str), list(manifest.categories[category.name]))
    chosen: list[int] = np.flatnonzero(acceptable)[:_SMOKE_ROWS].tolist()
    for category in spec.categories:
        for value in manifest.categories[category.name]:
            chosen += np.flatnonzero(acceptable & (strings[category.name] == value))[:2].tolist()
    rows = sorted(set(chosen))
    names = [name for name in spec.example if name in raw]
    columns = [_raw_values(raw[name])[rows].tolist() for name in names]
    return {
        "instances": [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)],
        "predictions": predictions[rows].tolist(),
    }


def instance_schema(spec: ModelSpec, manifest: Manifest) -> dict[str, Any]:
    """What one instance must look like: an OpenAPI 3.0.2 schema object, the form that Vertex AI takes as well.

    `x-trained-range` is what the training rows held; beyond it, and within the bounds, the model answers as for the
    nearest value that it has seen.
    """
    properties: dict[str, Any] = {}
    for category in spec.categories:
        properties[category.name] = {
            "type": "string",
            "enum": sorted(manifest.categories[category.name]),
            "description": category.description,
        }
    for number in spec.numbers:
        seen = manifest.numbers[number.name]
        properties[number.name] = {
            "type": "number",
            "minimum": number.minimum,
            "maximum": number.maximum,
            "description": number.description,
            "x-unit": number.unit,
            "x-trained-range": [seen.minimum, seen.maximum],
        }
    ordered = {name: properties[name] for name in [*spec.example, *properties] if name in properties}
    return {
        "title": spec.name,
        "type": "object",
        "properties": ordered,
        "required": list(ordered),
        "additionalProperties": False,
        "example": _example(spec, manifest),
        "x-prediction": {"name": spec.label, "unit": manifest.units.get(spec.label, ""), "type": "number"},
    }


def _example(spec: ModelSpec, manifest: Manifest) -> dict[str, str | float]:
    """The declared example, with the most frequent category where the dataset lacks the declared one."""
    known = manifest.categories
    return {
        name: next(iter(known[name])) if name in known and value not in known[name] else value
        for name, value in spec.example.items()
    }


def as_json(document: dict[str, Any]) -> bytes:
    """Readable JSON, in UTF-8."""
    return (json.dumps(document, indent=2) + "\n").encode()
