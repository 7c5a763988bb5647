"""Guess column types from text, as BigQuery's autodetection does: the narrowest type that fits the first 500 rows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, datetime

SAMPLE_ROWS = 500

_INT64 = range(-(2**63), 2**63)
_INTEGER = re.compile(r"\s*[+-]?\d+\s*")
_FLOAT = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*|[+-]?(inf|infinity|nan)", re.IGNORECASE)
_DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}")
_TIME = re.compile(r"\d{1,2}:\d{2}:\d{2}(\.\d{1,6})?")
_TIMESTAMP = re.compile(
    r"\d{4}-\d{1,2}-\d{1,2}[ Tt]\d{1,2}:\d{2}(:\d{2}(\.\d{1,9})?)?\s*(Z|z|UTC|[+-]\d{1,2}(:?\d{2})?)?"
)


def guess_type(values: Iterable[str]) -> str:
    """The narrowest BigQuery type that reads every value; STRING for none at all."""
    found: set[str] = {_type_of(value) for value in values}
    if not found:
        return "STRING"
    if len(found) == 1:
        return found.pop()
    if found == {"INTEGER", "FLOAT"}:
        return "FLOAT"
    if found == {"DATE", "TIMESTAMP"}:
        return "TIMESTAMP"
    return "STRING"


def _type_of(text: str) -> str:
    lowered = text.strip().lower()
    if lowered in ("true", "false"):
        return "BOOLEAN"
    if _INTEGER.fullmatch(text):
        return "INTEGER" if int(text) in _INT64 else "FLOAT"
    if _FLOAT.fullmatch(text):
        return "FLOAT"
    if _DATE.fullmatch(text) and _is_date(text):
        return "DATE"
    if _TIMESTAMP.fullmatch(text) and _is_date(text[:10].rstrip(" T")):
        return "TIMESTAMP"
    if _TIME.fullmatch(text) and _is_time(text):
        return "TIME"
    return "STRING"


def _is_date(text: str) -> bool:
    try:
        year, month, day = (int(one) for one in re.split(r"[-T ]", text)[:3])
        date(year, month, day)
    except ValueError:
        return False
    return True


def _is_time(text: str) -> bool:
    try:
        datetime.strptime(text.split(".")[0], "%H:%M:%S")
    except ValueError:
        return False
    return True
