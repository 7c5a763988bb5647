"""The dead letters of a dataset: a rejected row with its place, the field, the value and the rule that it broke.

A shard of a CSV file knows where its bytes begin, but not how many rows lie before them. Its rejects are therefore
numbered within the shard, kept as columns, and rendered as JSON lines when all shards have been counted.
"""

import json
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

# `row` counts from 0 within the shard; `field` is empty where the row as a whole is at fault.
SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("field", pa.string(), nullable=False),
        pa.field("value", pa.string()),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("rule", pa.string(), nullable=False),
    ]
)
VALUE_CHARACTERS = 200  # a reject shows what was there; it does not carry a file that lost its line ends
RENDERED_ROWS = 256 * 1024  # at once: text takes many times the room of columns
NOTHING = SCHEMA.empty_table()


def table(rows: npt.NDArray[np.int64], *, field: str, values: Iterable[str | None], reason: str, rule: str) -> pa.Table:
    """Return rejects that broke one rule.

    Args:
        rows: int64, shape (rejects,), numbers within the shard from 0.
        field: the column at fault, or "" for the row as a whole.
        values: what stood there, one for each row; None where nothing did.
        reason: the class that they are counted under, such as "month is out of range".
        rule: what the value should have been, such as "a whole number from 1 to 12".
    """
    shown = [None if value is None else value[:VALUE_CHARACTERS] for value in values]
    columns = [
        pa.array(rows, pa.int64()),
        pa.repeat(pa.scalar(field, pa.string()), len(shown)),
        pa.array(shown, pa.string()),
        pa.repeat(pa.scalar(reason, pa.string()), len(shown)),
        pa.repeat(pa.scalar(rule, pa.string()), len(shown)),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def count_by_reason(rejects: pa.Table) -> dict[str, int]:
    """Return how many rejects there are for each reason."""
    return {pair["values"]: pair["counts"] for pair in pc.value_counts(rejects["reason"]).to_pylist()}


def render(rejects: pa.Table, *, place: str, rows_before: int, header_lines: int = 0) -> bytes:
    """Return the rejects as JSON lines.

    Args:
        rejects: as `SCHEMA` says.
        place: the file, the table or the stream that the rows came from. rows_before: rows of that place that precede
        this shard. header_lines: lines before the first row, so that `line` is where an editor shows it; 0 where
        there are no lines.

    Returns:
        One JSON object a line: source, row (from 1), line (text files only), field, value, reason, rule.
    """
    batches = rejects.to_batches(max_chunksize=RENDERED_ROWS)
    return b"".join(_text_of(_lines(batch, place, rows_before, header_lines)) for batch in batches)


def _lines(rejects: pa.RecordBatch, place: str, rows_before: int, header_lines: int) -> pa.StringArray:
    row = pc.add(rejects["row"], rows_before + 1)
    line = [', "line": ', pc.add(row, header_lines).cast(pa.string())] if header_lines else []
    pieces = [
        f'{{"source": {json.dumps(place)}, "row": ',
        row.cast(pa.string()),
        *line,
        ', "field": ',
        _as_json(rejects["field"]),
        ', "value": ',
        _as_json(rejects["value"]),
        ', "reason": ',
        _as_json(rejects["reason"]),
        ', "rule": ',
        _as_json(rejects["rule"]),
        "}\n",
    ]
    return pc.binary_join_element_wise(*pieces, "")


def _text_of(lines: pa.StringArray) -> bytes:
    """Return all lines one after the other, which is how Arrow keeps them."""
    _, offsets, data = lines.buffers()
    bounds = np.frombuffer(offsets, np.int32)[lines.offset : lines.offset + len(lines) + 1]
    return bytes(data[int(bounds[0]) : int(bounds[-1])])


def _as_json(column: pa.StringArray) -> pa.StringArray:
    """Encode a column of strings as JSON strings: each distinct one once."""
    encoded = column.dictionary_encode()
    literals = pa.array([json.dumps(value) for value in encoded.dictionary.to_pylist()], pa.string())
    return pc.coalesce(literals.take(encoded.indices), "null")
