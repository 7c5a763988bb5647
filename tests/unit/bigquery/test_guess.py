"""Autodetection: the narrowest type that reads every value."""

import pytest

from localcloud.bigquery.names import mend_column
from localcloud.bigquery.sources.guess import guess_type


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "-2", "+3"], "INTEGER"),
        (["9223372036854775808"], "FLOAT"),
        (["1", "2.5"], "FLOAT"),
        (["1e5", ".5", "nan", "inf"], "FLOAT"),
        (["true", "FALSE"], "BOOLEAN"),
        (["true", "1"], "STRING"),
        (["2020-01-02", "1999-12-31"], "DATE"),
        (["2020-13-02"], "STRING"),
        (["2020-01-02 03:04:05", "2020-01-02T03:04:05.5Z", "2020-01-02"], "TIMESTAMP"),
        (["03:04:05"], "TIME"),
        (["25:04:05"], "STRING"),
        (["x", "1"], "STRING"),
        ([], "STRING"),
        (["1_000"], "STRING"),
        (["0x10"], "STRING"),
    ],
)
def test_the_narrowest_type_wins(values: list[str], kind: str) -> None:
    """One value that does not fit makes the column wider."""
    assert guess_type(values) == kind


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("a", "a"),
        (" a b ", "a_b"),
        ("1st", "_1st"),
        ("", "string_field_3"),
        ('x"; DROP', "x___DROP"),
        ("naïve", "na_ve"),
    ],
)
def test_headers_become_names(header: str, name: str) -> None:
    """What a column name may not hold becomes an underscore."""
    assert mend_column(header, 3) == name
