"""CSV files, cut into ranges of bytes so that one large file too is read by many workers.

A shard owns the lines that begin within its range. A line is a row: a quoted value may hold commas, not line ends (a
row that holds one is two broken rows). A block of lines is first given to pyarrow's reader, which is fast and refuses
the whole block for one bad value. Then, and only then, the lines are told apart here, with vectors as far as
possible, and the broken ones are set aside with their reason. Both ways give the same rows
(tests/unit/beam/test_csv_source.py holds them together).
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from beam import parsing, rejects
from beam.errors import EmptySource, MissingColumns, UnsupportedSource
from beam.filesystem import Location, locate
from beam.shards import Batch, Columns, Shard

SHARD_BYTES = 32 * 1024 * 1024  # about a million births: long columns are fast, several shards keep every core busy
TAIL_BYTES = 64 * 1024  # read past the end of a range to finish its last line
HEADER_BYTES = 1024 * 1024
_BOM = b"\xef\xbb\xbf"
_MERELY_QUOTED = r'^([^",]*|"[^"]*")(,([^",]*|"[^"]*"))*\r?$'  # RE2; a line that both readers take alike


@dataclass(frozen=True)
class CsvShard(Shard):
    """The lines of one file that begin in [start, end), in bytes."""

    uri: str
    header: tuple[str, ...]
    columns: dict[str, pa.DataType]
    start: int
    end: int
    first: bool

    @property
    def place(self) -> str:
        """The file."""
        return self.uri

    @property
    def rows_before(self) -> int | None:
        """Known for the first range only: counting lines would mean to read the file twice."""
        return 0 if self.first else None

    @property
    def header_lines(self) -> int:
        """The header."""
        return 1

    def batches(self) -> Iterator[Batch]:
        """Read the range; one batch."""
        block = read_lines(locate(self.uri), self.start, self.end, is_first=self.first)
        if block:
            yield parse_block(block, self.header, self.columns)


def plan(file: Location, size_bytes: int, columns: Columns, limit: int | None = None) -> tuple[list[CsvShard], int]:
    """Cut a file into shards.

    Args:
        file: where it is.
        size_bytes: its size.
        columns: what the pipeline needs.
        limit: take the first so many rows only.

    Returns:
        The shards (none for a file without a row) and the number of rows taken, counted only if there is a limit.

    Raises:
        EmptySource: the file has not even a header.
        MissingColumns: the header lacks a column.
        UnsupportedSource: the header names a column twice.
    """
    header, data_start = read_header(file)
    missing = [name for name in columns if name not in header]
    if missing:
        raise MissingColumns(
            f"source {file.uri!r} lacks the column(s) {', '.join(missing)}: its first line is "
            f"{','.join(header)[:200]!r}; add a header line with these names"
        )
    twice = [name for name in columns if header.count(name) > 1]
    if twice:
        raise UnsupportedSource(f"source {file.uri!r} names the column {twice[0]} twice; leave it there once")
    end, rows = (size_bytes, 0) if limit is None else offset_of_row(file, data_start, size_bytes, limit)
    starts = range(data_start, end, SHARD_BYTES)
    wanted = dict(columns)
    shards = [
        CsvShard(file.uri, header, wanted, start, min(start + SHARD_BYTES, end), first=start == data_start)
        for start in starts
    ]
    return shards, rows


def read_header(file: Location) -> tuple[tuple[str, ...], int]:
    """Return the column names and the offset in bytes of the first row.

    Raises:
        EmptySource: the file is empty.
    """
    with file.filesystem.open_input_file(file.path) as stream:
        head = stream.read_at(min(HEADER_BYTES, stream.size()), 0)
    line, _, _ = head.partition(b"\n")
    if not line.strip():
        raise EmptySource(f"source {file.uri!r} has no header line; its first line must name the columns")
    text = line.removeprefix(_BOM).decode("utf-8", "backslashreplace").rstrip("\r")
    names = next(csv.reader([text]))
    return tuple(name.strip() for name in names), min(len(line) + 1, len(head))


def offset_of_row(file: Location, start: int, size_bytes: int, row: int) -> tuple[int, int]:
    """Return the offset at which row number `row` (from 0, after the header) begins, and how many rows lie before it.

    A file with fewer rows answers its size, and the rows that it has.
    """
    rows, offset, ends_open = 0, start, False
    with file.filesystem.open_input_file(file.path) as stream:
        while offset < size_bytes:
            chunk = stream.read_at(min(SHARD_BYTES // 32, size_bytes - offset), offset)
            ends = np.flatnonzero(np.frombuffer(chunk, np.uint8) == ord("\n"))
            if rows + len(ends) >= row:
                return offset + int(ends[row - rows - 1]) + 1, row
            rows, offset = rows + len(ends), offset + len(chunk)
            ends_open = not chunk.endswith(b"\n")
    return size_bytes, rows + int(ends_open)


def read_lines(file: Location, start: int, end: int, *, is_first: bool) -> bytes:
    """Return the whole lines that begin in [start, end); without `is_first`, the line that runs into `start` is not ours."""
    with file.filesystem.open_input_file(file.path) as stream:
        begin = start if is_first else start - 1  # a line begins at `start` if the byte before it is a line end
        pieces = [stream.read_at(end - begin, begin)]
        if not is_first:
            pieces[0] = pieces[0].partition(b"\n")[2]
        position, size = end, stream.size()
        while pieces[0] and not pieces[-1].endswith(b"\n") and position < size:
            tail = stream.read_at(min(TAIL_BYTES, size - position), position)
            line, newline, _ = tail.partition(b"\n")
            pieces.append(line + newline)
            position += len(tail)
    return b"".join(pieces)


def parse_block(block: bytes, header: Sequence[str], columns: Columns) -> Batch:
    """Turn lines into columns; broken lines are set aside, whatever they hold. Never raises for what the bytes are."""
    lines = None
    if b'"' in block:
        lines = _split_lines(block)
        is_plain = pc.all(pc.match_substring_regex(lines, _MERELY_QUOTED)).as_py()
    else:
        is_plain = True
    table = _parse_fast(block, header, columns) if is_plain else None
    if table is not None:
        return Batch(table, np.arange(table.num_rows))
    return _parse_lines(_split_lines(block) if lines is None else lines, header, columns)


def _parse_fast(block: bytes, header: Sequence[str], columns: Columns) -> pa.RecordBatch | None:
    """Let pyarrow read the block; None if it holds a row that pyarrow refuses, or would join with another."""
    try:
        table = pacsv.read_csv(
            pa.BufferReader(block),
            pacsv.ReadOptions(column_names=list(header), block_size=1 << 20),
            # An empty line would otherwise be a row of nulls; so it is one row less than there are lines.
            pacsv.ParseOptions(ignore_empty_lines=True),
            pacsv.ConvertOptions(
                include_columns=list(columns),
                column_types=dict(columns),
                null_values=list(parsing.MISSING_TEXTS),
                true_values=list(parsing.TRUE_TEXTS),
                false_values=list(parsing.FALSE_TEXTS),
                strings_can_be_null=True,
            ),
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError):
        return None
    lines = block.count(b"\n") + (not block.endswith(b"\n"))
    return table.combine_chunks().to_batches()[0] if table.num_rows == lines else None


def _split_lines(block: bytes) -> pa.BinaryArray:
    lines = pc.split_pattern(pa.array([block.removesuffix(b"\n")], pa.large_binary()), b"\n").flatten()
    return pc.replace_substring_regex(lines, "\r$", "")


def _parse_lines(lines: pa.BinaryArray, header: Sequence[str], columns: Columns) -> Batch:
    """Tell lines apart into text columns."""
    quoted = pc.match_substring(lines, b'"').to_numpy(zero_copy_only=False)
    fits = pc.equal(pc.count_substring(lines, b","), len(header) - 1).to_numpy(zero_copy_only=False)
    plain_rows = np.flatnonzero(fits & ~quoted)
    quoted_rows, quoted_fields = _parse_quoted(lines, np.flatnonzero(quoted), len(header))
    flat = pc.split_pattern(lines.take(pa.array(plain_rows)), b",").flatten()
    rows = np.concatenate([plain_rows, quoted_rows])
    order = np.argsort(rows, kind="stable")
    arrays = []
    for name in columns:
        position = list(header).index(name)
        plain = flat.take(pa.array(np.arange(position, len(flat), len(header))))
        from_quoted = pa.array([fields[position] for fields in quoted_fields], plain.type)
        arrays.append(pa.concat_arrays([plain, from_quoted]).take(pa.array(order)))
    records = pa.RecordBatch.from_arrays(arrays, names=list(columns))
    broken = np.setdiff1d(np.arange(len(lines)), rows)
    return Batch(records, rows[order], _reject(lines, broken, len(header)))


def _parse_quoted(
    lines: pa.BinaryArray, rows: npt.NDArray[np.int64], width: int
) -> tuple[npt.NDArray[np.int64], list[list[bytes]]]:
    """Tell lines that hold a quote apart, one by one: such a file is rare where all values are numbers."""
    good_rows, good_fields = [], []
    for row, line in zip(rows.tolist(), lines.take(pa.array(rows)).to_pylist(), strict=True):
        reader = csv.reader([line.decode("utf-8", "surrogateescape") + "\n", "\n"])
        try:
            fields = next(reader)
        except csv.Error:  # such as a lone carriage return: the line is counted among the broken ones
            continue
        if len(fields) == width and reader.line_num == 1:  # line 2 was read too if a quote was left open
            good_rows.append(row)
            good_fields.append([field.encode("utf-8", "surrogateescape") for field in fields])
    return np.array(good_rows, np.int64), good_fields


def _reject(lines: pa.BinaryArray, rows: npt.NDArray[np.int64], width: int) -> pa.Table:
    values = parsing.texts(lines.take(pa.array(rows)))
    is_empty = np.array([not (value or "").strip() for value in values], np.bool_)
    tables = []
    for mask, reason in ((is_empty, "row is empty"), (~is_empty, "row has the wrong number of columns")):
        shown = [value for value, chosen in zip(values, mask, strict=True) if chosen]
        tables.append(
            rejects.table(rows[mask], field="", values=shown, reason=reason, rule=f"{width} values with commas")
        )
    return pa.concat_tables(tables)
