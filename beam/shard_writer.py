"""Write what became of one shard: Parquet files under temporary names, and a summary that says what is in them.

A file is built in memory (some megabytes) and written in one go: its digest is known without reading it again, and no
reader ever meets a part of it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from beam import rejects
from beam.column_statistics import TableStatistics, add_counts
from beam.errors import OutputError
from beam.filesystem import Location

ROWS_PER_FILE = 4 * 1024 * 1024  # a longer shard goes on in a second file: about 15 MB each, and bounded memory
KINDS = ("train", "eval", "rejects")


@dataclass(frozen=True)
class WrittenFile:
    """A file under its temporary name."""

    name: str
    rows: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class ShardSummary:
    """What became of one shard.

    Attributes:
        index: the shard's number in the order of the source.
        place: what a reject names as its source.
        rows_before: rows of `place` before this shard; None: to be added up from the summaries before it.
        header_lines: lines of `place` before its first row.
        input_rows: rows that were read.
        files: the files written, by kind.
        rejects_by_reason: how many rows were rejected, by reason.
        statistics: of the training rows.
    """

    index: int
    place: str
    rows_before: int | None
    header_lines: int
    input_rows: int = 0
    files: Mapping[str, tuple[WrittenFile, ...]] = field(default_factory=dict)
    rejects_by_reason: Mapping[str, int] = field(default_factory=dict)
    statistics: TableStatistics = field(default_factory=TableStatistics)

    def rows(self, kind: str) -> int:
        """Return the rows written of one kind."""
        return sum(file.rows for file in self.files.get(kind, ()))


class ShardWriter:
    """Collects the tables of one shard and writes them; nothing is written for a kind without a row."""

    def __init__(self, directory: Location, index: int) -> None:
        self._writers = {kind: _RollingWriter(directory, f"{kind}-{index:06d}") for kind in KINDS}
        self._rejects_by_reason: dict[str, int] = {}
        self._statistics = TableStatistics()

    def add(self, train: pa.Table, evaluation: pa.Table, rejected: pa.Table) -> None:
        """Take one batch's results."""
        for kind, table in zip(KINDS, (train, evaluation, rejected), strict=True):
            if len(table):
                self._writers[kind].write(table)
        if len(train):
            self._statistics = self._statistics.merge(TableStatistics.of(train))
        if len(rejected):
            self._rejects_by_reason = add_counts([self._rejects_by_reason, rejects.count_by_reason(rejected)])

    def close(self, summary: ShardSummary) -> ShardSummary:
        """Write what is left; return the summary, filled in."""
        return ShardSummary(
            index=summary.index,
            place=summary.place,
            rows_before=summary.rows_before,
            header_lines=summary.header_lines,
            input_rows=summary.input_rows,
            files={kind: tuple(writer.close()) for kind, writer in self._writers.items()},
            rejects_by_reason=self._rejects_by_reason,
            statistics=self._statistics,
        )


class _RollingWriter:
    """Writes tables to name-00.parquet, name-01.parquet … of at most about `ROWS_PER_FILE` rows each."""

    def __init__(self, directory: Location, name: str) -> None:
        self._directory = directory
        self._name = name
        self._files: list[WrittenFile] = []
        self._buffer: pa.BufferOutputStream | None = None
        self._parquet: pq.ParquetWriter | None = None
        self._rows = 0

    def write(self, table: pa.Table) -> None:
        if self._parquet is None:
            self._buffer = pa.BufferOutputStream()
            # Without Arrow's own schema in the footer, codes and texts come back as plain strings for every reader.
            self._parquet = pq.ParquetWriter(self._buffer, table.schema, store_schema=False)
        self._parquet.write_table(table)
        self._rows += len(table)
        if self._rows >= ROWS_PER_FILE:
            self._finish()

    def close(self) -> list[WrittenFile]:
        if self._parquet is not None:
            self._finish()
        return self._files

    def _finish(self) -> None:
        if self._parquet is None or self._buffer is None:
            raise RuntimeError(f"no file is open for {self._name}")
        self._parquet.close()
        data = self._buffer.getvalue()
        name = f"{self._name}-{len(self._files):02d}.parquet"
        place = self._directory / name
        try:
            place.write_bytes(data)
        except OSError as error:
            reason = str(error).splitlines()[0][:300]
            raise OutputError(f"{place.uri!r} cannot be written ({reason}); check space, access and bucket") from error
        digest = hashlib.sha256(data).hexdigest()
        self._files.append(WrittenFile(name, self._rows, data.size, digest))
        self._buffer = self._parquet = None
        self._rows = 0
