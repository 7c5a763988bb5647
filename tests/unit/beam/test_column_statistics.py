"""Statistics: merged from shards they are those of the whole, soundly, and to the last digit in a fixed order."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beam.column_statistics import NumberStatistics, TableStatistics, add_counts

Floats = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=50)

# The machine of CI is busy: how long an example takes says nothing.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def of(values: list[float]) -> NumberStatistics:
    return NumberStatistics.of(pa.chunked_array([pa.array(values, pa.float64())]))


@unhurried
@given(st.lists(Floats, min_size=1, max_size=6))
def test_merged_shards_equal_the_whole(shards: list[list[float]]) -> None:
    """However rows are cut into shards, count, mean, population deviation and extremes are those of all rows."""
    merged = NumberStatistics()
    for shard in shards:
        merged = merged.merge(of(shard))
    whole = np.array([value for shard in shards for value in shard], np.float64)
    found = merged.as_dict()
    scale = max(1.0, float(np.abs(whole).max()))
    assert found["count"] == len(whole)
    assert found["mean"] == pytest.approx(whole.mean(), rel=1e-12, abs=1e-12 * scale)
    assert found["standard_deviation"] == pytest.approx(whole.std(), rel=1e-6, abs=1e-9 * scale)
    assert (found["min"], found["max"]) == (whole.min(), whole.max())


def test_a_large_offset_does_not_eat_the_deviation() -> None:
    """Values around 1e9 with a deviation of 0.5: the difference of large sums would lose every digit of it."""
    merged = of([1e9, 1e9 + 1] * 500).merge(of([1e9 + 1, 1e9] * 500))
    assert merged.as_dict()["standard_deviation"] == pytest.approx(0.5, rel=1e-9)


def test_one_value_has_no_deviation_and_nothing_has_no_mean() -> None:
    """A single row deviates by 0; no row at all has neither mean nor extremes, rather than a NaN in the manifest."""
    assert of([3.5]).as_dict() == {"count": 1, "mean": 3.5, "standard_deviation": 0.0, "min": 3.5, "max": 3.5}
    assert set(NumberStatistics().as_dict().values()) == {0, None}


def test_merging_with_nothing_changes_nothing() -> None:
    """The statistics of no rows are neutral on both sides."""
    some = of([1.0, 2.0, 4.0])
    assert some.merge(NumberStatistics()) == NumberStatistics().merge(some) == some


def test_texts_are_counted_by_value() -> None:
    """String columns are counted, merged by value and told in the order of the values."""
    first = TableStatistics.of(pa.table({"sex": pa.array(["True", "Unknown", "True"]).dictionary_encode()}))
    second = TableStatistics.of(pa.table({"sex": ["False", "Unknown"]}))
    values = first.merge(second).as_dict()["sex"]["values"]
    assert list(values.items()) == [("False", 1), ("True", 2), ("Unknown", 2)]


def test_counts_add_up_by_key() -> None:
    """Counts of the same reason in several shards are one count."""
    assert add_counts([{"a": 1, "b": 2}, {"b": 3}, {}]) == {"a": 1, "b": 5}


def test_float32_columns_are_measured_in_double_precision() -> None:
    """A mean over many float32 values must not drift: 0.1 a million times has the mean of one float32 0.1."""
    column = pa.chunked_array([pa.array(np.full(1_000_000, 0.1, np.float32))])
    assert math.isclose(NumberStatistics.of(column).mean, float(np.float32(0.1)), rel_tol=1e-12)
