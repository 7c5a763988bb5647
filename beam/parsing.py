"""Text to numbers and booleans, a column at a time: what a CSV block with a broken row, or a Parquet column of text, needs.

Each distinct text is parsed once. The grammar is that of pyarrow's CSV reader, which reads the blocks without a
fault, so that a row means the same whether its neighbour is broken or not: spaces and tabs around a value are
ignored, an empty text is missing, an infinite or undefined number is no number.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

TRUE_TEXTS = ("1", "true", "True", "TRUE")
FALSE_TEXTS = ("0", "false", "False", "FALSE")
MISSING_TEXTS = ("",)

_NUMBER = re.compile(r"[ \t]*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)[ \t]*")
_BOOLEANS = dict.fromkeys(TRUE_TEXTS, True) | dict.fromkeys(FALSE_TEXTS, False)
_Value = TypeVar("_Value", float, bool)


@dataclass(frozen=True)
class Parsed:
    """A column of values, null where there is none, and where the text was there but made no sense."""

    values: pa.Array
    malformed: pa.BooleanArray | None = None  # None: nowhere


def numbers(column: pa.Array) -> Parsed:
    """Return integers as they are and everything else as float64; what is not a finite number is null and malformed."""
    if pa.types.is_integer(column.type):
        return Parsed(column)
    if pa.types.is_floating(column.type) or pa.types.is_decimal(column.type):
        values = column.cast(pa.float64())
        finite = pc.is_finite(values)
        if pc.all(finite).as_py() in (True, None):  # None: there is no value at all
            return Parsed(values)
        return Parsed(pc.if_else(finite, values, None), pc.invert(finite.fill_null(True)))
    return _from_text(column, _number, pa.float64())


def booleans(column: pa.Array) -> Parsed:
    """Return booleans; a text or number that is neither true nor false is null and malformed."""
    if pa.types.is_boolean(column.type):
        return Parsed(column)
    return _from_text(column, _boolean, pa.bool_())


def texts(column: pa.Array) -> list[str | None]:
    """Return values as a reject shows them; bytes that are no UTF-8 are shown as \\xNN."""
    return [_text(value) for value in column.to_pylist()]


def _from_text(column: pa.Array, parse: Callable[[str], _Value | None], target: pa.DataType) -> Parsed:
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    distinct = texts(encoded.dictionary)
    missing = [text is None or text in MISSING_TEXTS for text in distinct]
    parsed = [None if text is None else parse(text) for text in distinct]
    malformed = [value is None and not absent for value, absent in zip(parsed, missing, strict=True)]
    values = pa.array(parsed, target).take(encoded.indices)
    return Parsed(values, pa.array(malformed, pa.bool_()).take(encoded.indices).fill_null(False))


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _number(text: str) -> float | None:
    match = _NUMBER.fullmatch(text)
    value = float(match[1]) if match else math.inf
    return value if math.isfinite(value) else None


def _boolean(text: str) -> bool | None:
    return _BOOLEANS.get(text.strip(" \t"))
