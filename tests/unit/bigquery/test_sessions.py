"""Streams are arithmetic over row numbers: no rows lost, none twice, however they are cut."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud.bigquery.engine import Engine
from localcloud.bigquery.errors import Invalid, NotFound
from localcloud.bigquery.sessions import LIFETIME_S, Session, Sessions, parse_stream, parse_table, split

NAME = f"projects/p/locations/us/sessions/{'a' * 32}"


@given(rows=st.integers(0, 10**9), streams=st.integers(1, 500))
def test_the_streams_of_a_session_join_without_a_gap(rows: int, streams: int) -> None:
    """Each stream begins where the one before ended; the first at 0, the last at the end."""
    session = Session(NAME, "t", rows, 0, 0.0, streams)
    ranges = [parse_stream(name) for name in session.stream_names()]
    assert ranges[0].first == 0
    assert ranges[-1].end == rows
    assert all(left.end == right.first for left, right in itertools.pairwise(ranges))
    assert max(one.end - one.first for one in ranges) - min(one.end - one.first for one in ranges) <= 1


@given(
    first=st.integers(0, 10**6),
    length=st.integers(0, 10**6),
    fraction=st.floats(0.001, 0.999),
)
def test_a_split_keeps_every_row(first: int, length: int, fraction: float) -> None:
    """Primary and remainder together are the stream that was split."""
    left, right = (parse_stream(one) for one in split(f"{NAME}/streams/r{first}-{first + length}", fraction))
    assert (left.first, right.end) == (first, first + length)
    assert left.end == right.first


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, 2.0, float("nan")])
def test_a_split_needs_a_real_fraction(fraction: float) -> None:
    """0, 1 and beyond are refused."""
    with pytest.raises(Invalid, match="fraction"):
        split(f"{NAME}/streams/r0-10", fraction)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x",
        f"{NAME}/streams/r5-1",
        f"{NAME}/streams/r-1-5",
        f"{NAME[:-1]}/streams/r0-1",
        f"{NAME}/streams/r0-1/../x",
    ],
)
def test_odd_stream_names_are_refused(name: str) -> None:
    """Only names of our own making are read."""
    with pytest.raises(Invalid, match="Invalid stream name"):
        parse_stream(name)


@pytest.mark.parametrize("name", ["t", "projects/p/datasets/d/tables/a;b", "projects/p/datasets/../tables/t"])
def test_odd_table_paths_are_refused(name: str) -> None:
    """A table is named in full, by valid ids."""
    with pytest.raises(Invalid, match="Invalid"):
        parse_table(name)


def test_a_session_ends_after_its_lifetime(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Past six hours a stream is not found, and its file is removed by the next sweep."""
    now = [1_000_000.0]
    root = tmp_path_factory.mktemp("sessions")
    sessions = Sessions(engine, root, lambda: now[0])
    with engine.write() as cursor:
        from localcloud.bigquery import catalog
        from localcloud.bigquery.catalog import Table
        from localcloud.bigquery.names import TableRef
        from localcloud.bigquery.resources import dataset_doc, table_doc

        cursor.execute("CREATE TABLE data.t_x AS SELECT 1::BIGINT AS a").fetchall()
        catalog.create_dataset(cursor, "p", "d", dataset_doc("p", "d", {}, 0))
        ref = TableRef("p", "d", "t")
        fields = [{"name": "a", "type": "INTEGER", "mode": "NULLABLE"}]
        catalog.put_table(cursor, Table(ref, "t_x", table_doc(ref, fields, {}, "US", 0)))
    session = sessions.create("projects/p", "projects/p/datasets/d/tables/t", [], "", 1, 0)
    stream = parse_stream(session.stream_names()[0])
    assert sum(batch.num_rows for batch in sessions.batches(stream, 0)) == 1
    now[0] += LIFETIME_S + 1
    sessions.sweep()
    assert list(root.iterdir()) == []
    with pytest.raises(NotFound, match="create a new read session"):
        list(sessions.batches(stream, 0))
