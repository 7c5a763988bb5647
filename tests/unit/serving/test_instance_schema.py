"""An instance is either turned into columns or refused by index, field, value and mend."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import RequestError, StartError
from serving.schema import InstanceSchema
from tests.support.serving_stand_in import INSTANCE, SCHEMA_DOCUMENT, instance_schema

SCHEMA = instance_schema()


def refusal(*instances: object) -> RequestError:
    with pytest.raises(RequestError) as caught:
        SCHEMA.columns(instances)
    assert caught.value.status_code == 400
    return caught.value


def test_instances_become_one_array_per_field() -> None:
    """Order is kept; whole numbers are numbers."""
    columns = SCHEMA.columns([INSTANCE, INSTANCE | {"is_male": "Unknown", "mother_age": 40}])
    assert columns["is_male"].tolist() == ["True", "Unknown"]
    assert columns["mother_age"].dtype == np.float32
    np.testing.assert_allclose(columns["mother_age"], [26.6, 40])


@pytest.mark.parametrize(
    ("field", "value", "problem", "mend"),
    [
        ("is_male", True, "a boolean where a string is needed", '"Unknown"'),
        ("is_male", "male", "an unknown category", '"False", "True", "Unknown"'),
        ("is_male", "true", "an unknown category", '"True"'),
        ("plurality", 1, "a number where a string is needed", '"Single(1)"'),
        ("plurality", None, "null where a string is needed", '"Single(1)"'),
        ("plurality", ["Single(1)"], "a list where a string is needed", '"Single(1)"'),
        ("mother_age", "26.6", "a string where a number is needed", "without quotes"),
        ("mother_age", True, "a boolean where a number is needed", "10 to 75 years"),
        ("mother_age", math.nan, "not a finite number", "10 to 75 years"),
        ("mother_age", math.inf, "not a finite number", "10 to 75 years"),
        ("mother_age", -1, "out of range", "10 to 75 years"),
        ("gestation_weeks", 10**400, "out of range", "12 to 50 weeks"),
        ("gestation_weeks", {"weeks": 37}, "an object where a number is needed", "12 to 50 weeks"),
    ],
)
def test_a_bad_value_is_refused_by_index_field_value_and_mend(
    field: str, value: object, problem: str, mend: str
) -> None:
    """The second of three instances is bad, and the refusal says exactly that."""
    found = refusal(INSTANCE, INSTANCE | {field: value}, INSTANCE)
    (only,) = found.problems
    assert (only.instance, only.field, only.problem) == (1, field, problem)
    assert mend in only.mend
    assert str(found).startswith(f"instances[1].{field} is ")


def test_missing_and_unknown_fields_are_named() -> None:
    """A mistyped field name gives two problems: what is missing, and what is not known."""
    mistyped = {name: value for name, value in INSTANCE.items() if name != "mother_age"} | {"mother_ag": 26.6}
    problems = refusal(mistyped).problems
    assert [(problem.field, problem.problem) for problem in problems] == [
        ("mother_age", "this field is required"),
        ("mother_ag", "no such field"),
    ]


@pytest.mark.parametrize("instance", [None, 1, "text", ["True", 26.6]])
def test_an_instance_that_is_no_object_is_refused(instance: object) -> None:
    """The fields are listed."""
    (only,) = refusal(instance).problems
    assert (only.instance, only.field) == (0, "")
    assert "mother_age" in only.mend


def test_a_bad_batch_gives_a_short_answer() -> None:
    """At most ten problems are listed, the first instances first."""
    problems = refusal(*[INSTANCE | {"mother_age": -1, "is_male": "?"}] * 1_000).problems
    assert [problem.instance for problem in problems] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert len(refusal(*[{}] * 1_000).problems) == 10


def test_a_long_or_deep_value_is_cut() -> None:
    """A refused value does not blow up the answer."""
    deep: Any = "x" * 100_000
    for _ in range(200):
        deep = [deep]
    assert len(str(refusal(INSTANCE | {"plurality": "x" * 100_000}))) < 500
    assert len(str(refusal(INSTANCE | {"plurality": deep}))) < 500


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["True", "Single(1)"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
instances = st.lists(json_values | st.fixed_dictionaries(dict.fromkeys(INSTANCE, json_values)), max_size=4)


@given(instances)
def test_whatever_comes_is_either_columns_or_a_refusal_that_can_be_sent(batch: list[Any]) -> None:
    """No JSON value makes the check itself fail."""
    columns, error = None, None
    try:
        columns = SCHEMA.columns(batch)
    except RequestError as refused:
        error = refused
    if error is None:
        assert columns is not None
        assert all(len(column) == len(batch) for column in columns.values())
    else:
        assert error.problems
        assert json.dumps(error.as_json())


@pytest.mark.parametrize(
    "change",
    [
        {"properties": {"a": {"type": "array"}}},
        {"properties": {"a": {"type": "number"}}},
        {"properties": None},
        {"x-prediction": {}},
    ],
)
def test_a_schema_that_cannot_be_used_stops_the_start(change: dict[str, Any]) -> None:
    """The message names the file and the mend."""
    with pytest.raises(StartError, match=r"model/instance_schema\.json.*export the model again"):
        InstanceSchema.from_json(json.dumps(SCHEMA_DOCUMENT | change).encode(), "model/instance_schema.json")
