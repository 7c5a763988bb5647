"""Dead letters: each is a line of JSON with its place, whatever the value holds."""

import json

import numpy as np
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beam import rejects

# The machine of CI is busy: how long an example takes says nothing.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def of(values: list[str | None], reason: str = "a is odd") -> pa.Table:
    return rejects.table(np.arange(len(values)), field="a", values=values, reason=reason, rule="even")


@unhurried
@given(st.lists(st.none() | st.text(max_size=300), min_size=1, max_size=5))
def test_every_value_survives_as_json(values: list[str | None]) -> None:
    """Quotes, control characters, line ends and any script come back as they were, up to 200 characters."""
    lines = rejects.render(of(values), place='gs://b/"x".csv', rows_before=10, header_lines=1).decode().splitlines()
    assert [json.loads(line)["value"] for line in lines] == [value and value[:200] for value in values]
    assert json.loads(lines[0])["source"] == 'gs://b/"x".csv'


def test_a_reject_tells_where_it_was_and_what_it_broke() -> None:
    """Rows count from 1 over the whole file; the line is where an editor shows it, below the header."""
    (line,) = rejects.render(of(["3"]), place="x.csv", rows_before=41, header_lines=1).splitlines()
    assert json.loads(line) == {
        "source": "x.csv",
        "row": 42,
        "line": 43,
        "field": "a",
        "value": "3",
        "reason": "a is odd",
        "rule": "even",
    }


def test_rows_that_are_no_lines_have_no_line_number() -> None:
    """A row of Parquet or of a table has a number and no line."""
    (line,) = rejects.render(of([None]), place="x.parquet", rows_before=0).splitlines()
    assert "line" not in json.loads(line)


def test_rejects_are_counted_by_reason() -> None:
    """Each reject counts once, under its reason."""
    table = pa.concat_tables([of(["1", "3"]), of(["5"], "a is late")])
    assert rejects.count_by_reason(table) == {"a is odd": 2, "a is late": 1}
