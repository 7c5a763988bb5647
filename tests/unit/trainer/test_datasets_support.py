"""The test-side dataset builder splits as BigQuery does."""

from tests.support import datasets


def test_fingerprint_equals_bigquerys_documented_value() -> None:
    """The short FarmHash gives the signed value that BigQuery's reference documents for `3true`."""
    assert datasets.farm_fingerprint_short("3true") == -4880158226897771312


def test_both_views_of_a_birth_are_in_one_split() -> None:
    """Each birth gives one row with and one without ultrasound, in the same split."""
    split = datasets.births(limit=500)
    for table in (split.train, split.evaluation):
        unknown = [value == "Unknown" for value in table["is_male"].to_pylist()]
        assert sum(unknown) * 2 == len(unknown) > 0
