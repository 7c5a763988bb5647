"""Births to examples: literal rows in, literal rows out; and every rule's reject."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from beam import births, rejects

GOOD: dict[str, Any] = {
    "year": 2022,
    "month": 5,
    "weight_pounds": 7.5,
    "is_male": True,
    "mother_age": 29,
    "plurality": 1,
    "gestation_weeks": 40,
}
EVALUATION_MONTH, TRAINING_MONTH = 5, 6


def records(*rows: dict[str, Any]) -> pa.RecordBatch:
    """Rows as BigQuery gives them: integers, a float and a boolean; each is a good birth but for what is said."""
    types = dict.fromkeys(births.COLUMNS, pa.int64()) | {"weight_pounds": pa.float64(), "is_male": pa.bool_()}
    columns = {name: pa.array([{**GOOD, **row}[name] for row in rows], kind) for name, kind in types.items()}
    return pa.RecordBatch.from_pydict(columns)


def texts(*rows: dict[str, Any]) -> pa.RecordBatch:
    """The same as text, as the careful CSV reader gives it."""
    merged = [{**GOOD, **row} for row in rows]
    return pa.RecordBatch.from_pydict(
        {name: pa.array([None if row[name] is None else str(row[name]) for row in merged]) for name in births.COLUMNS}
    )


def prepare(batch: pa.RecordBatch) -> births.Examples:
    return births.prepare(batch, np.arange(100, 100 + len(batch)))


def test_a_birth_becomes_a_row_with_and_a_row_without_ultrasound() -> None:
    """With ultrasound the sex and the number of children are known; without, neither is."""
    prepared = prepare(
        records(
            {"month": TRAINING_MONTH, "plurality": 2, "is_male": False, "weight_pounds": 5.25},
            {"month": TRAINING_MONTH},
        )
    )
    rest = {"mother_age": 29.0, "gestation_weeks": 40.0}
    assert prepared.train.to_pylist() == [
        {"weight_pounds": 5.25, "is_male": "False", "plurality": "Twins(2)", **rest},
        {"weight_pounds": 5.25, "is_male": "Unknown", "plurality": "Multiple(2+)", **rest},
        {"weight_pounds": 7.5, "is_male": "True", "plurality": "Single(1)", **rest},
        {"weight_pounds": 7.5, "is_male": "Unknown", "plurality": "Single(1)", **rest},
    ]
    assert len(prepared.evaluation) == len(prepared.rejected) == 0


def test_both_rows_of_a_birth_fall_into_the_split_of_its_month() -> None:
    """A birth in a month of the evaluation split gives two evaluation rows and no training row."""
    prepared = prepare(records({"month": EVALUATION_MONTH, "mother_age": 31}, {"month": TRAINING_MONTH}))
    assert prepared.evaluation["mother_age"].to_pylist() == [31.0, 31.0]
    assert prepared.train["mother_age"].to_pylist() == [29.0, 29.0]


@pytest.mark.parametrize(
    ("plurality", "text"),
    [(1, "Single(1)"), (2, "Twins(2)"), (3, "Triplets(3)"), (4, "Quadruplets(4)"), (5, "Quintuplets(5)")],
)
def test_plurality_has_the_names_of_the_original(plurality: int, text: str) -> None:
    """The number of children becomes the tutorial's words."""
    assert prepare(records({"month": 6, "plurality": plurality})).train["plurality"][0].as_py() == text


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"year": 2000}, "year is out of range"),
        ({"year": None}, "year is missing"),
        ({"month": 0}, "month is out of range"),
        ({"month": 13}, "month is out of range"),
        ({"weight_pounds": None}, "weight_pounds is missing"),
        ({"weight_pounds": 0.0}, "weight_pounds is out of range"),
        ({"weight_pounds": -1.0}, "weight_pounds is out of range"),
        ({"weight_pounds": 31.0}, "weight_pounds is out of range"),
        ({"weight_pounds": float("nan")}, "weight_pounds is not a number"),
        ({"weight_pounds": float("inf")}, "weight_pounds is not a number"),
        ({"is_male": None}, "is_male is missing"),
        ({"mother_age": 0}, "mother_age is out of range"),
        ({"plurality": 0}, "plurality is out of range"),
        ({"plurality": 6}, "plurality is out of range"),
        ({"gestation_weeks": None}, "gestation_weeks is missing"),
        ({"gestation_weeks": 100}, "gestation_weeks is out of range"),
    ],
)
def test_a_bad_birth_is_a_reject_with_its_place_value_and_reason(fault: dict[str, Any], reason: str) -> None:
    """A row that breaks a rule gives no example; its reject names row, field, value and rule; its neighbours stay."""
    prepared = prepare(records({"month": 6}, {"month": 6} | fault, {"month": 6}))
    (reject,) = prepared.rejected.to_pylist()
    (field,) = fault
    assert len(prepared.train) == 4
    assert (reject["row"], reject["field"], reject["reason"]) == (101, field, reason)
    assert reject["value"] == (None if fault[field] is None else str(fault[field]))
    assert reject["rule"]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"year": "2022.5"}, "year is not a whole number"),
        ({"month": "May"}, "month is not a number"),
        ({"weight_pounds": "7,5"}, "weight_pounds is not a number"),
        ({"weight_pounds": "NaN"}, "weight_pounds is not a number"),
        ({"weight_pounds": "1e999"}, "weight_pounds is not a number"),
        ({"is_male": "male"}, "is_male is not true or false"),
        ({"mother_age": ""}, "mother_age is missing"),
        ({"plurality": "1.5"}, "plurality is not a whole number"),
        ({"gestation_weeks": "40 weeks"}, "gestation_weeks is not a number"),
        ({"gestation_weeks": "٤٠"}, "gestation_weeks is not a number"),
    ],
)
def test_text_that_is_no_value_is_a_reject(fault: dict[str, str], reason: str) -> None:
    """Letters in a number, an infinite number, an unknown truth value: each has its own reason and shows the text."""
    (reject,) = prepare(texts({"month": 6}, {"month": 6} | fault)).rejected.to_pylist()
    assert (reject["reason"], reject["value"]) == (reason, *fault.values())


def test_a_row_is_rejected_once_for_the_first_rule_it_breaks() -> None:
    """A row with several faults is one reject, so that rejects and good births add up to the rows read."""
    prepared = prepare(records({"year": 1999, "weight_pounds": None, "plurality": 9}))
    assert [reject["reason"] for reject in prepared.rejected.to_pylist()] == ["year is out of range"]


def test_text_and_numbers_give_the_same_examples() -> None:
    """A birth means the same read as text and as numbers: 29 and "29.0" are one age, 1 and "true" one truth."""
    typed = prepare(records({"month": 6}, {"month": 6, "is_male": False, "plurality": 3}))
    spelled = prepare(
        texts(
            {"month": "6.0", "mother_age": "29.0", "is_male": "TRUE", "gestation_weeks": " 40"},
            {"month": "06", "is_male": "0", "plurality": "3", "weight_pounds": "75e-1"},
        )
    )
    assert spelled.train == typed.train


def test_weeks_99_stay_as_in_the_original() -> None:
    """99 is the records' code for a gestation that is not known; the tutorial's query keeps it."""
    assert len(prepare(records({"month": 6, "gestation_weeks": 99})).train) == 2


def test_no_row_at_all() -> None:
    """An empty batch gives empty tables of the right form."""
    prepared = prepare(records())
    assert prepared.train.schema == prepared.evaluation.schema == births.SCHEMA
    assert len(prepared.train) == len(prepared.evaluation) == 0
    assert prepared.rejected.schema == rejects.SCHEMA


def test_a_column_without_any_value() -> None:
    """Parquet knows columns of the null type: every row misses that value."""
    batch = records({}, {}).set_column(3, "is_male", pa.nulls(2)).set_column(0, "year", pa.nulls(2))
    assert prepare(batch).rejected["reason"].to_pylist() == ["year is missing"] * 2
