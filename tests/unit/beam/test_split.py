"""The split: as BigQuery's expression gives it, for every month and however the rows are mixed."""

import numpy as np
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beam.farmhash import farm_fingerprint, fingerprint64
from beam.split import is_training, training_mask

# The machine of CI is busy: how long an example takes says nothing.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

MONTHS = [(year, month) for year in range(2001, 2009) for month in range(1, 13)]


def bigquery_is_training(year: int, month: int) -> bool:
    """`ABS(MOD(FARM_FINGERPRINT(CONCAT(CAST(year AS STRING), CAST(month AS STRING))), 4)) < 3`, word for word."""
    return abs(bigquery_mod(farm_fingerprint(str(year) + str(month)), 4)) < 3


def bigquery_mod(dividend: int, divisor: int) -> int:
    """BigQuery's MOD: the result has the sign of the dividend, where Python's `%` has that of the divisor."""
    return -(-dividend % divisor) if dividend < 0 else dividend % divisor


@unhurried
@given(st.lists(st.tuples(st.integers(2001, 2100), st.integers(1, 12)), max_size=200))
def test_mask_equals_the_query_row_by_row(rows: list[tuple[int, int]]) -> None:
    """Hashing distinct months and gathering gives what hashing each row gives."""
    years = pa.array([year for year, _ in rows], pa.int32())
    months = pa.array([month for _, month in rows], pa.int32())
    assert training_mask(years, months).tolist() == [bigquery_is_training(*row) for row in rows]


def test_the_sign_matters_for_26_of_the_96_months_of_the_tutorial() -> None:
    """An unsigned hash would put 26 of the months 2001-2008 into the other split."""
    unsigned = [fingerprint64(f"{year}{month}".encode()) % 4 < 3 for year, month in MONTHS]
    signed = [is_training(f"{year}{month}") for year, month in MONTHS]
    assert sum(a != b for a, b in zip(unsigned, signed, strict=True)) == 26


def test_the_months_of_2022_are_split_as_in_bigquery() -> None:
    """The sample's year has seven months to train on and five to evaluate on; these are literal, so a change shows."""
    assert [month for month in range(1, 13) if is_training(f"2022{month}")] == [1, 2, 6, 7, 9, 10, 11]


def test_a_month_never_lies_in_both_splits() -> None:
    """The mask depends on the key alone, not on the rows around it."""
    years = pa.array(np.repeat([2001, 2005, 2001], 4), pa.int64())
    months = pa.array([1, 2, 3, 4] * 3, pa.int64())
    mask = training_mask(years, months).tolist()
    assert mask[:4] == mask[8:]


def test_no_rows_give_an_empty_mask() -> None:
    """An empty batch has an empty mask."""
    assert training_mask(pa.array([], pa.int32()), pa.array([], pa.int32())).tolist() == []
