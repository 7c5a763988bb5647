"""Parquet files, cut between row groups so that one large file too is read by many workers."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam.errors import MissingColumns, UnsupportedSource
from beam.filesystem import Location, locate
from beam.shards import Batch, Columns, Shard, check_types

SHARD_ROWS = 1024 * 1024  # row groups are joined up to this many rows; a larger row group is read in pieces


@dataclass(frozen=True)
class ParquetShard(Shard):
    """Some neighbouring row groups of one file, or the first rows of them."""

    uri: str
    columns: tuple[str, ...]
    row_groups: tuple[int, ...]
    first_row: int
    rows: int

    @property
    def place(self) -> str:
        """The file."""
        return self.uri

    @property
    def rows_before(self) -> int | None:
        """Known from the file's footer."""
        return self.first_row

    @property
    def header_lines(self) -> int:
        """None: rows here are no lines."""
        return 0

    def batches(self) -> Iterator[Batch]:
        """Read the row groups, a batch of about `SHARD_ROWS` at a time."""
        file = locate(self.uri)
        done = 0
        with file.filesystem.open_input_file(file.path) as stream, pq.ParquetFile(stream) as parquet:
            for group in self._batch_groups(parquet.metadata):
                table = parquet.read_row_groups(list(group), columns=list(self.columns))
                for records in _whole_batches(table.slice(0, self.rows - done)):
                    yield Batch(records, np.arange(done, done + len(records)))
                    done += len(records)

    def _batch_groups(self, metadata: pq.FileMetaData) -> Iterator[tuple[int, ...]]:
        sizes = [metadata.row_group(group).num_rows for group in self.row_groups]
        return (groups for groups, _, _ in join_row_groups(list(zip(self.row_groups, sizes, strict=True))))


def plan(file: Location, columns: Columns, limit: int | None = None) -> tuple[list[ParquetShard], int]:
    """Cut a file into shards.

    Args:
        file: where it is.
        columns: what the pipeline needs.
        limit: take the first so many rows only.

    Returns:
        The shards (none for a file without a row) and the number of rows that they hold.

    Raises:
        UnsupportedSource: the file is no Parquet file, or a column holds lists or records.
        MissingColumns: the file lacks a column.
    """
    try:
        with file.filesystem.open_input_file(file.path) as stream, pq.ParquetFile(stream) as parquet:
            metadata, schema = parquet.metadata, parquet.schema_arrow
    except pa.ArrowInvalid as error:
        reason = str(error).splitlines()[0][:200]
        raise UnsupportedSource(
            f"source {file.uri!r} is not a whole Parquet file ({reason}); upload it again"
        ) from error
    missing = [name for name in columns if name not in schema.names]
    if missing:
        raise MissingColumns(
            f"source {file.uri!r} lacks the column(s) {', '.join(missing)}: it has {', '.join(schema.names)[:200]}; "
            "rename or add them"
        )
    check_types(file.uri, schema, columns)
    sizes = [(group, metadata.row_group(group).num_rows) for group in range(metadata.num_row_groups)]
    left = metadata.num_rows if limit is None else min(limit, metadata.num_rows)
    shards, total = [], left
    for groups, first_row, rows in join_row_groups(sizes):
        if left <= 0:
            break
        shards.append(ParquetShard(file.uri, tuple(columns), groups, first_row, min(rows, left)))
        left -= rows
    return shards, total


def join_row_groups(sizes: list[tuple[int, int]]) -> Iterator[tuple[tuple[int, ...], int, int]]:
    """Join neighbours up to `SHARD_ROWS` rows: yield their numbers, the rows before them, and their rows."""
    groups: list[int] = []
    first_row = rows = 0
    for group, size in sizes:
        if groups and rows + size > SHARD_ROWS:
            yield tuple(groups), first_row, rows
            groups, first_row, rows = [], first_row + rows, 0
        groups.append(group)
        rows += size
    if rows:
        yield tuple(groups), first_row, rows


def _whole_batches(table: pa.Table) -> list[pa.RecordBatch]:
    return table.combine_chunks().to_batches(max_chunksize=SHARD_ROWS)  # type: ignore[no-any-return]
