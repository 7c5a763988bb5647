"""Run the exported model with LiteRT: raw fields in, predictions in the label's unit out.

The preprocessing is inside the file, so there is none here. A LiteRT interpreter must not be used by two threads at once;
each call takes one of a few from a pool and puts it back.
"""

import queue
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter

from serving.artifacts import read_files
from serving.errors import StartError
from serving.schema import Columns, InstanceSchema

MODEL_FILE = "model.tflite"
SCHEMA_FILE = "instance_schema.json"
_SIGNATURE = "serving_default"


class LiteRtModel:
    """One loaded model; any number of threads may predict.

    Args:
        content: the LiteRT file.
        interpreters: how many calls can run at the same time; further ones wait.
        place: where the file came from, for messages.

    Raises:
        StartError: the file is no LiteRT model, or its inputs are not the schema's fields.
    """

    def __init__(self, content: bytes, schema: InstanceSchema, *, interpreters: int, place: str) -> None:
        self.schema = schema
        try:
            inputs, output = _tensor_indexes(content, schema)
        except (ValueError, KeyError, RuntimeError) as error:
            raise StartError(
                "this is not a model that fits its schema",
                value=f"{type(error).__name__}: {error}",
                place=place,
                mend="export the model again; model.tflite and instance_schema.json must come from one export",
            ) from error
        self._pool: queue.SimpleQueue[_Runner] = queue.SimpleQueue()
        for _ in range(interpreters):
            self._pool.put(_Runner(content, inputs, output))

    def predict(self, columns: Columns) -> npt.NDArray[np.float32]:
        """Predict a whole batch at once; float32, shape (rows,), in the label's unit."""
        runner = self._pool.get()
        try:
            return runner.run(columns)
        finally:
            self._pool.put(runner)


class _Runner:
    """One interpreter, resized to the batch it was last given. Must not be shared between threads."""

    def __init__(self, content: bytes, inputs: dict[str, int], output: int) -> None:
        self._interpreter = Interpreter(model_content=content, num_threads=1)
        self._inputs = inputs
        self._output = output
        self._rows = 0

    def run(self, columns: Columns) -> npt.NDArray[np.float32]:
        rows = len(next(iter(columns.values())))
        if rows == 0:
            return np.empty(0, np.float32)
        if rows != self._rows:
            self._rows = 0  # should the resize fail, the next call must resize again
            for index in self._inputs.values():
                self._interpreter.resize_tensor_input(index, [rows])
            self._interpreter.allocate_tensors()
            self._rows = rows
        for name, index in self._inputs.items():
            self._interpreter.set_tensor(index, columns[name])
        self._interpreter.invoke()
        predictions: npt.NDArray[np.float32] = self._interpreter.get_tensor(self._output)
        return predictions


def _tensor_indexes(content: bytes, schema: InstanceSchema) -> tuple[dict[str, int], int]:
    """Tensor numbers by field name, and that of the label.

    An interpreter of its own is asked, because one whose signature has been read can no longer be resized.
    """
    signature: Any = Interpreter(model_content=content).get_signature_runner(_SIGNATURE)
    inputs = {name: int(detail["index"]) for name, detail in signature.get_input_details().items()}
    expected = {field.name for field in schema.fields}
    if inputs.keys() != expected:
        raise ValueError(f"the model takes {sorted(inputs)}, its schema declares {sorted(expected)}")
    return inputs, int(signature.get_output_details()[schema.label]["index"])


def load(storage_uri: str, *, interpreters: int) -> LiteRtModel:
    """Read, check and try the model once with the schema's example.

    Raises:
        StartError: it cannot be served.
    """
    files = read_files(storage_uri, (SCHEMA_FILE, MODEL_FILE))
    schema = InstanceSchema.from_json(files[SCHEMA_FILE], f"{storage_uri}/{SCHEMA_FILE}")
    place = f"{storage_uri}/{MODEL_FILE}"
    model = LiteRtModel(files[MODEL_FILE], schema, interpreters=interpreters, place=place)
    predicted = model.predict(schema.columns([schema.example]))
    if not np.isfinite(predicted).all():
        raise StartError(
            "the model does not answer its own example with a number",
            value=predicted.tolist(),
            place=place,
            mend="train the model again",
        )
    return model
