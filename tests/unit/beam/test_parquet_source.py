"""The Parquet reader: row groups become shards, and every row is read once."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beam import parquet_source
from beam.errors import MissingColumns, UnsupportedSource
from beam.filesystem import locate

# The machine of CI is busy: how long an example takes says nothing.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

COLUMNS = {"a": pa.float64(), "flag": pa.bool_()}


def plan(path: Path, rows: int = 10, group: int = 4, limit: int | None = None) -> list[parquet_source.ParquetShard]:
    table = pa.table({"spare": ["x"] * rows, "flag": [True] * rows, "a": range(rows)})
    pq.write_table(table, path, row_group_size=group)
    shards, taken = parquet_source.plan(locate(str(path)), COLUMNS, limit)
    assert taken == (rows if limit is None else min(rows, limit))
    return shards


def read(shards: list[parquet_source.ParquetShard]) -> list[tuple[int, int]]:
    """(number in the file, value) of each row."""
    return [
        ((shard.rows_before or 0) + row, value)
        for shard in shards
        for batch in shard.batches()
        for row, value in zip(batch.rows.tolist(), batch.records.column("a").to_pylist(), strict=True)
    ]


@unhurried
@given(
    rows=st.integers(0, 40),
    group=st.integers(1, 12),
    shard_rows=st.integers(1, 20),
    limit=st.none() | st.integers(1, 50),
)
def test_every_row_is_read_once_with_its_number(
    tmp_path_factory: pytest.TempPathFactory, rows: int, group: int, shard_rows: int, limit: int | None
) -> None:
    """However row groups and shards fall, the rows are those of the file, in order, up to the limit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet_source, "SHARD_ROWS", shard_rows)
        shards = plan(tmp_path_factory.mktemp("rows") / "x.parquet", rows, group, limit)
        expected = rows if limit is None else min(rows, limit)
        assert read(shards) == [(row, row) for row in range(expected)]


def test_neighbouring_row_groups_are_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small row groups share a shard; only the columns that are needed are read."""
    monkeypatch.setattr(parquet_source, "SHARD_ROWS", 8)
    shards = plan(tmp_path / "x.parquet", rows=20, group=4)
    assert [shard.row_groups for shard in shards] == [(0, 1), (2, 3), (4,)]
    assert [batch.records.schema.names for batch in shards[0].batches()] == [["a", "flag"]]


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    """The error names the column that the file lacks, and those that it has."""
    pq.write_table(pa.table({"a": [1], "b": [2]}), tmp_path / "x.parquet")
    with pytest.raises(MissingColumns, match=r"lacks the column\(s\) flag: it has a, b"):
        parquet_source.plan(locate(str(tmp_path / "x.parquet")), COLUMNS)


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    """Half a file is no Parquet file: its footer is missing."""
    pq.write_table(pa.table({"a": range(100), "flag": [True] * 100}), tmp_path / "x.parquet")
    whole = (tmp_path / "x.parquet").read_bytes()
    (tmp_path / "x.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnsupportedSource, match=r"x\.parquet' is not a whole Parquet file"):
        parquet_source.plan(locate(str(tmp_path / "x.parquet")), COLUMNS)


def test_a_column_of_lists_is_refused(tmp_path: Path) -> None:
    """A column must hold one value a row."""
    pq.write_table(pa.table({"a": [[1]], "flag": [True]}), tmp_path / "x.parquet")
    with pytest.raises(UnsupportedSource, match="in the column a"):
        parquet_source.plan(locate(str(tmp_path / "x.parquet")), COLUMNS)
