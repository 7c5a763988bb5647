"""Births become examples: whole columns in, whole columns out, no files and no Beam.

Each good birth gives two rows, one after the other: as known with an ultrasound (the sex, the number of children) and
without one (sex unknown; one child or several), so that the model learns to serve both. This is the preprocessing of
Google's babyweight tutorial (GoogleCloudPlatform/training-data-analyst, blogs/babyweight_keras), where it is a query
and a Python function for each row; here a birth that the query would drop without a word is a reject with its reason.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam import parsing, rejects
from beam.split import training_mask

# As in bigquery-public-data.samples.natality. Numbers in a text file are read as float64 and must then be whole where
# they count something, so that 2022.0 is a year and 2022.5 is a reject.
COLUMNS = {
    "year": pa.float64(),
    "month": pa.float64(),
    "weight_pounds": pa.float64(),
    "is_male": pa.bool_(),
    "mother_age": pa.float64(),
    "plurality": pa.float64(),
    "gestation_weeks": pa.float64(),
}
LABEL = "weight_pounds"
UNITS = {"weight_pounds": "lb", "mother_age": "years", "gestation_weeks": "weeks"}
SEXES = ("True", "False", "Unknown")
PLURALITIES = ("Single(1)", "Twins(2)", "Triplets(3)", "Quadruplets(4)", "Quintuplets(5)", "Multiple(2+)")
VOCABULARIES = {"is_male": SEXES, "plurality": PLURALITIES}

_TEXT = pa.dictionary(pa.int8(), pa.string())
SCHEMA = pa.schema(
    [
        ("weight_pounds", pa.float32()),
        ("is_male", _TEXT),
        ("mother_age", pa.float32()),
        ("plurality", _TEXT),
        ("gestation_weeks", pa.float32()),
    ]
)


@dataclass(frozen=True)
class NumberRule:
    """What a number must be: over `above`, at most `most`, and whole where it counts something."""

    field: str
    above: float
    most: float
    whole: bool = False

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        return f"{kind} over {self.above:g} and at most {self.most:g}"


# The lower bounds are the tutorial's query. The upper bounds only stop what no birth can be (the natality records
# reach 18 lb, 64 years, 5 children): gestation_weeks = 99 is the records' code for "not known", which the tutorial
# keeps, so it stays.
RULES = (
    NumberRule("year", above=2000, most=2100, whole=True),
    NumberRule("month", above=0, most=12, whole=True),
    NumberRule("weight_pounds", above=0, most=30),
    NumberRule("mother_age", above=0, most=100),
    NumberRule("plurality", above=0, most=5, whole=True),
    NumberRule("gestation_weeks", above=0, most=99),
)


@dataclass(frozen=True)
class Examples:
    """Rows to train on, rows to evaluate on (both as `SCHEMA`), and the rows that were rejected (`rejects.SCHEMA`)."""

    train: pa.Table
    evaluation: pa.Table
    rejected: pa.Table


def prepare(records: pa.RecordBatch, rows: npt.NDArray[np.int64]) -> Examples:
    """Turn births into examples.

    Args:
        records: the columns of `COLUMNS`, as numbers and booleans or as text.
        rows: int64, shape (births,), the number of each birth within its shard.

    Returns:
        Two examples for each good birth, in the order of the births; a reject for each other one, with the first rule
        broken.
    """
    parsed = {name: _parse(name, records.column(name)) for name in COLUMNS}
    bad = _broken_rules(parsed)
    rejected = _reject(records, rows, parsed, bad)
    values = {name: column.values for name, column in parsed.items()}
    if len(rejected):
        good = np.ones(len(rows), np.bool_)
        for _, _, mask in bad:
            good &= ~mask
        values = {name: column.filter(pa.array(good)) for name, column in values.items()}
    trains = training_mask(values["year"].cast(pa.int32()), values["month"].cast(pa.int32()))
    columns = _narrow(values)
    return Examples(_examples(columns, trains), _examples(columns, ~trains), rejected)


def _parse(name: str, column: pa.Array) -> parsing.Parsed:
    return parsing.booleans(column) if COLUMNS[name] == pa.bool_() else parsing.numbers(column)


def _broken_rules(parsed: dict[str, parsing.Parsed]) -> list[tuple[str, str, npt.NDArray[np.bool_]]]:
    """Return (field, what is wrong, mask of the rows) for each rule that some row breaks, in the order of the columns."""
    rules = {rule.field: rule for rule in RULES}
    broken = []
    for field, column in parsed.items():
        values, malformed = column.values, column.malformed
        if values.null_count:
            missing = values.is_null() if malformed is None else pc.and_not(values.is_null(), malformed)
            broken.append((field, "missing", missing))
        if malformed is not None:
            broken.append((field, f"not {_kind(field)}", malformed))
        if field in rules:
            broken += [(field, wrong, mask) for wrong, mask in _out_of_range(values, rules[field])]
    masks = [(field, wrong, mask.to_numpy(zero_copy_only=False)) for field, wrong, mask in broken]
    return [(field, wrong, mask) for field, wrong, mask in masks if mask.any()]


def _out_of_range(values: pa.Array, rule: NumberRule) -> list[tuple[str, pa.BooleanArray]]:
    """One look at the extremes settles a column without a fault, which is nearly every column."""
    extremes = pc.min_max(values)
    low, high = extremes["min"].as_py(), extremes["max"].as_py()
    broken = []
    if low is not None and (low <= rule.above or high > rule.most):
        outside = pc.or_(pc.less_equal(values, rule.above), pc.greater(values, rule.most))
        broken.append(("out of range", outside.fill_null(False)))
    if low is not None and rule.whole and pa.types.is_floating(values.type):
        fraction = pc.not_equal(values, pc.floor(values))
        broken.append(("not a whole number", fraction.fill_null(False)))
    return broken


def _kind(field: str) -> str:
    return "true or false" if COLUMNS[field] == pa.bool_() else "a number"


def _reject(
    records: pa.RecordBatch,
    rows: npt.NDArray[np.int64],
    parsed: dict[str, parsing.Parsed],
    bad: list[tuple[str, str, npt.NDArray[np.bool_]]],
) -> pa.Table:
    """Write down each bad row once, under the first rule that it breaks."""
    expected = {rule.field: str(rule) for rule in RULES}
    seen = np.zeros(len(rows), np.bool_)
    tables = [rejects.NOTHING]
    for field, wrong, mask in bad:
        chosen = np.flatnonzero(mask & ~seen)
        seen |= mask
        values = parsing.texts(records.column(field).take(pa.array(chosen)))
        rule = expected.get(field, "true or false")
        tables.append(rejects.table(rows[chosen], field=field, values=values, reason=f"{field} is {wrong}", rule=rule))
    return pa.concat_tables(tables).sort_by("row") if len(tables) > 1 else rejects.NOTHING


def _narrow(values: dict[str, pa.Array]) -> dict[str, npt.NDArray[np.float32 | np.int8]]:
    """Return the columns of an example in their final width: float32 numbers, and int8 codes for what will be text."""
    numbers = {name: values[name].cast(pa.float32(), safe=False).to_numpy() for name in UNITS}
    is_male = values["is_male"].to_numpy(zero_copy_only=False)
    return numbers | {
        "is_male": np.where(is_male, np.int8(0), np.int8(1)),
        "plurality": values["plurality"].cast(pa.int8()).to_numpy() - np.int8(1),
    }


def _examples(columns: dict[str, npt.NDArray[np.float32 | np.int8]], chosen: npt.NDArray[np.bool_]) -> pa.Table:
    """Return two rows for each chosen birth: with ultrasound, then without."""
    kept = {name: column[chosen] for name, column in columns.items()}
    several = np.where(kept["plurality"] > 0, np.int8(len(PLURALITIES) - 1), np.int8(0))
    unknown = np.full(len(several), len(SEXES) - 1, np.int8)
    doubled: dict[str, pa.Array] = {name: pa.array(np.repeat(kept[name], 2)) for name in UNITS}
    doubled["is_male"] = _interleave(kept["is_male"], unknown, SEXES)
    doubled["plurality"] = _interleave(kept["plurality"], several, PLURALITIES)
    return pa.Table.from_arrays([doubled[name] for name in SCHEMA.names], schema=SCHEMA)


def _interleave(
    first: npt.NDArray[np.float32 | np.int8], second: npt.NDArray[np.generic], vocabulary: tuple[str, ...]
) -> pa.DictionaryArray:
    codes = np.empty(2 * len(first), np.int8)
    codes[0::2], codes[1::2] = first, second
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(vocabulary, pa.string()))
