"""The CSV reader: both of its ways agree, ranges lose and double no line, and no bytes make it fail."""

import itertools
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from beam import births, csv_source, parsing
from beam.errors import EmptySource, MissingColumns, UnsupportedSource
from beam.filesystem import Location, locate
from beam.shards import Batch

# The machine of CI is busy: how long an example takes says nothing.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

HEADER = ("a", "flag", "b")
COLUMNS = {"a": pa.float64(), "flag": pa.bool_()}

# Texts near the edges of what a number, a truth value or a quoted field may be.
NUMBERS = [
    "1",
    "-2.5",
    "1e3",
    " 7",
    "7\t",
    "+5",
    "0x1F",
    "007",
    ".5",
    "5.",
    "1e999",
    "1e-999",
    "nan",
    "inf",
    "-",
    "1_000",
    "٣",
]
TRUTHS = ["true", "False", "FALSE", "0", "tRue", "yes", "", " "]
QUOTED = ['"3"', '""', '"a,b"', '"x', 'x"', '"a""b"', '"1"2', "é", "\x00"]
FIELDS = st.sampled_from([*NUMBERS, *TRUTHS, *QUOTED])
LINES = st.one_of(
    st.lists(FIELDS, min_size=1, max_size=4).map(",".join),
    st.tuples(st.sampled_from(["1", "2.5", ""]), st.sampled_from(["true", "0"]), FIELDS).map(",".join),
)
BLOCKS = st.tuples(st.lists(LINES, min_size=1, max_size=8), st.sampled_from(["\n", "\r\n"]), st.booleans()).map(
    lambda block: (block[1].join(block[0]) + (block[1] if block[2] else "")).encode()
)


def careful(block: bytes) -> Batch:
    return csv_source._parse_lines(csv_source._split_lines(block), HEADER, COLUMNS)


def values(batch: Batch) -> list[tuple[object, ...]]:
    """(row, a, flag) with text turned into values, so that both ways can be compared."""
    a = parsing.numbers(batch.records.column("a"))
    flag = parsing.booleans(batch.records.column("flag"))
    return list(zip(batch.rows.tolist(), a.values.to_pylist(), flag.values.to_pylist(), strict=True))


@unhurried
@given(BLOCKS)
@example(b'1,true,"x')
@example(b'1,true,"x\n2,true,y"\n')
@example(b"1,true,x\r2,true,y\n")
@example(b'1,true,x\n"')
@example(b"1,true,x\n\n2,true,x\n")
@example(b"\r\n")
def test_the_fast_way_never_differs_from_the_careful_way(block: bytes) -> None:
    """A row means the same whether pyarrow reads its block or a broken neighbour makes us read it line by line."""
    taken = csv_source.parse_block(block, HEADER, COLUMNS)
    assert values(taken) == values(careful(block))
    assert taken.broken == careful(block).broken


@unhurried
@given(st.text("+-.eE019 \tnaif_xINTrue", min_size=1, max_size=10), st.sampled_from(["1,%s,x", "%s,true,x"]))
@example("+5", "%s,true,x")
@example(".", "%s,true,x")
def test_a_single_value_reads_the_same_both_ways(text: str, line: str) -> None:
    """The grammar of numbers and truth values is pyarrow's."""
    block = (line % text).encode()
    assert values(csv_source.parse_block(block, HEADER, COLUMNS)) == values(careful(block))


@unhurried
@given(st.binary(max_size=200))
@example(b"\n")
@example(b"\r")
@example(b'"\n"\n"')
@example(b"\xff\xfe1,true\x00\n")
def test_any_bytes_are_rows_or_rejects(block: bytes) -> None:
    """Whatever a file holds, reading does not fail, and each line is either a record or a reject, exactly once."""
    if not block:
        return
    batch = csv_source.parse_block(block, HEADER, COLUMNS)
    numbers = sorted(batch.rows.tolist() + batch.broken["row"].to_pylist())
    assert numbers == list(range(block.count(b"\n") + (not block.endswith(b"\n"))))


@unhurried
@given(data=st.data())
def test_ranges_lose_and_double_no_line(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """However small the ranges are cut, each line is read by the one that it begins in."""
    lines = data.draw(st.lists(st.text("abc,", max_size=12), min_size=1, max_size=12))
    content = "\n".join(["a,flag,b", *lines, ""]).encode()
    file = written(tmp_path_factory.mktemp("ranges") / "rows.csv", content)
    header_end = len(b"a,flag,b\n")
    cuts = sorted(data.draw(st.sets(st.integers(header_end, len(content)), max_size=6)))
    bounds = [header_end, *[cut for cut in cuts if header_end < cut < len(content)], len(content)]
    read = [
        csv_source.read_lines(file, start, end, is_first=start == header_end)
        for start, end in itertools.pairwise(bounds)
        if start < end
    ]
    assert b"".join(read) == content[header_end:]


def written(path: Path, content: bytes) -> Location:
    path.write_bytes(content)
    return locate(str(path))


def plan(path: Path, content: bytes, limit: int | None = None) -> tuple[list[csv_source.CsvShard], int]:
    return csv_source.plan(written(path, content), len(content), COLUMNS, limit)


def read_all(shards: list[csv_source.CsvShard]) -> list[object]:
    return [value for shard in shards for batch in shard.batches() for value in batch.records.column("a").to_pylist()]


def test_a_line_longer_than_its_range_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tail of a line is fetched past the end of the range, however far it goes."""
    monkeypatch.setattr(csv_source, "SHARD_BYTES", 8)
    monkeypatch.setattr(csv_source, "TAIL_BYTES", 4)
    rows = [f"{number},true,{'x' * number}" for number in range(30)]
    shards, _ = plan(tmp_path / "long.csv", "\n".join(["a,flag,b", *rows]).encode())
    assert len(shards) > 30
    assert read_all(shards) == [float(number) for number in range(30)]


@pytest.mark.parametrize("limit", [1, 2, 5, 6, 7, 100])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_limit_takes_the_first_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, end: bytes) -> None:
    """The first N rows are taken, in order, whatever the ranges and whether or not the last line has an end."""
    monkeypatch.setattr(csv_source, "SHARD_BYTES", 64)
    content = b"a,flag,b\n" + b"\n".join(b"%d,1,x" % number for number in range(6)) + end
    shards, rows = plan(tmp_path / "rows.csv", content, limit)
    assert rows == min(limit, 6)
    assert read_all(shards) == [float(number) for number in range(min(limit, 6))]


def test_a_byte_order_mark_carriage_returns_and_other_columns_are_no_hindrance(tmp_path: Path) -> None:
    """A file saved by a spreadsheet is read: BOM, CRLF, quoted names, columns in another order and columns to spare."""
    content = b'\xef\xbb\xbf"spare","flag","b","a"\r\nx,true,y,1\r\n"x,x",false,y,2\r\n'
    shards, _ = plan(tmp_path / "sheet.csv", content)
    (batch,) = shards[0].batches()
    assert values(batch) == [(0, 1.0, True), (1, 2.0, False)]
    assert not len(batch.broken)


def test_rows_without_their_columns_are_rejects_with_the_line(tmp_path: Path) -> None:
    """Too few values, too many, an open quote, an empty line: counted, shown, and told apart."""
    content = b'a,flag,b\n1,true,x\n1,true\n1,true,x,y\n\n1,true,"x\n2,true,x\n'
    shards, _ = plan(tmp_path / "broken.csv", content)
    (batch,) = shards[0].batches()
    assert [row for row, _, _ in values(batch)] == [0, 5]
    assert sorted((reject["row"], reject["value"], reject["reason"]) for reject in batch.broken.to_pylist()) == [
        (1, "1,true", "row has the wrong number of columns"),
        (2, "1,true,x,y", "row has the wrong number of columns"),
        (3, "", "row is empty"),
        (4, '1,true,"x', "row has the wrong number of columns"),
    ]


def test_quoted_lines_stay_on_the_fast_way() -> None:
    """A file that quotes its values without need is not read line by line."""
    batch = csv_source.parse_block(b'"1","true","x,x"\n2,false,"y"\n', HEADER, COLUMNS)
    assert batch.records.schema.types == [pa.float64(), pa.bool_()]


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    """The error says which columns lack and what the first line is."""
    with pytest.raises(MissingColumns, match=r"lacks the column\(s\) flag.*'a,b'.*add a header"):
        plan(tmp_path / "x.csv", b"a,b\n1,2\n")


def test_a_file_without_a_header_line_is_refused(tmp_path: Path) -> None:
    """A births file whose first line is a birth lacks its columns; an empty file has no header at all."""
    with pytest.raises(EmptySource, match="no header line"):
        plan(tmp_path / "x.csv", b"")
    with pytest.raises(MissingColumns, match="year"):
        csv_source.plan(written(tmp_path / "y.csv", b"2022,5\n"), 7, births.COLUMNS)


def test_a_column_named_twice_is_refused(tmp_path: Path) -> None:
    """Which of two columns is meant cannot be guessed."""
    with pytest.raises(UnsupportedSource, match="column a twice"):
        plan(tmp_path / "x.csv", b"a,flag,a\n1,true,2\n")


def test_a_header_alone_is_no_row(tmp_path: Path) -> None:
    """A file with nothing but a header has no shard, with and without a line end."""
    assert plan(tmp_path / "x.csv", b"a,flag,b\n")[0] == plan(tmp_path / "y.csv", b"a,flag,b")[0] == []
    assert plan(tmp_path / "y.csv", b"a,flag,b\n", limit=3) == ([], 0)
