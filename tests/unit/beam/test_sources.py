"""Addresses to shards: files, directories and patterns, and errors that say what to mend."""

import errno
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as fs
import pyarrow.parquet as pq
import pytest

from beam import sources
from beam.errors import FINAL, EmptySource, SourceError, SourceNotFound, UnsupportedSource
from beam.filesystem import Location, expand
from beam.shards import Shard

COLUMNS = {"a": pa.float64()}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three CSV files and a Parquet file in two directories, and files that no pattern of data should take."""
    for name, values in {"1.csv": "1", "2.csv": "2", "sub/3.csv": "3\n4", "_tmp/5.csv": "5", ".6.csv": "6"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"a\n{values}\n")
    pq.write_table(pa.table({"a": [7.0]}), tmp_path / "sub" / "7.parquet")
    return tmp_path


def read(shards: list[Shard]) -> list[float]:
    return [value for shard in shards for batch in shard.batches() for value in batch.records.column("a").to_pylist()]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("1.csv", [1]),
        ("", [1, 2, 3, 4, 7]),
        ("sub", [3, 4, 7]),
        ("sub/", [3, 4, 7]),
        ("*.csv", [1, 2]),
        ("[12].csv", None),
        ("?.csv", [1, 2]),
        ("sub/*.parquet", [7]),
        ("**/*.csv", [3, 4]),
        ("*/*.csv", [3, 4]),
        ("_*/*.csv", [5]),
        (".*.csv", [6]),
    ],
)
def test_a_file_a_directory_and_a_pattern(tree: Path, address: str, expected: list[float] | None) -> None:
    """A pattern takes what it says; a directory takes all data below it, except names that begin with `.` or `_`."""
    source = f"{tree}/{address}"
    if expected is None:
        with pytest.raises(SourceNotFound):
            sources.plan(source, COLUMNS)
    else:
        assert read(sources.plan(source, COLUMNS)) == expected


def test_a_file_uri_is_a_local_path(tree: Path) -> None:
    """file:// is read like a path."""
    assert read(sources.plan(f"file://{tree}/1.csv", COLUMNS)) == [1]


@pytest.mark.parametrize(("limit", "expected"), [(1, [1]), (3, [1, 2, 3]), (4, [1, 2, 3, 4]), (99, [1, 2, 3, 4, 7])])
def test_a_limit_counts_across_files_in_the_order_of_their_names(tree: Path, limit: int, expected: list[float]) -> None:
    """The first N rows are the same ones each time, whichever formats they lie in."""
    assert read(sources.plan(str(tree), COLUMNS, limit=limit)) == expected


def test_a_source_that_does_not_exist(tmp_path: Path) -> None:
    """The error names the address and what to do."""
    with pytest.raises(SourceNotFound, match=r"nope\.csv' does not exist; check the name"):
        sources.plan(str(tmp_path / "nope.csv"), COLUMNS)
    with pytest.raises(SourceNotFound, match=r"none-\*\.csv' does not exist"):
        sources.plan(str(tmp_path / "none-*.csv"), COLUMNS)


def test_files_without_a_row(tmp_path: Path) -> None:
    """A header and nothing else is an empty source, by the file and by the directory."""
    (tmp_path / "x.csv").write_text("a\n")
    for address in ("x.csv", ""):
        with pytest.raises(EmptySource, match="has no row in its 1 file"):
            sources.plan(f"{tmp_path}/{address}", COLUMNS)


@pytest.mark.parametrize("name", ["x.csv.gz", "x.json", "x"])
def test_other_formats_are_refused(tmp_path: Path, name: str) -> None:
    """A format is known by the ending of the name; any other is refused rather than guessed."""
    (tmp_path / name).write_text("a\n1\n")
    with pytest.raises(UnsupportedSource, match=r"is neither \.csv nor \.parquet"):
        sources.plan(str(tmp_path / name), COLUMNS)


def test_other_schemes_are_refused() -> None:
    """s3:// is not ours; the error says what is."""
    with pytest.raises(UnsupportedSource, match="use gs://, bq:// or a local path"):
        sources.plan("s3://bucket/x.csv", COLUMNS)


def test_a_bucket_by_wildcard_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pattern over buckets would list all that somebody owns."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    with pytest.raises(SourceNotFound, match="wildcard in the bucket's name"):
        sources.plan("gs://buck*/x.csv", COLUMNS)


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOENT, SourceNotFound), (errno.EACCES, SourceNotFound), (errno.EAGAIN, SourceError)],
    ids=["missing", "forbidden", "away"],
)
def test_a_store_that_is_away_is_not_a_source_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, number: int, kind: type[SourceError]
) -> None:
    """What is not there or not for us stays so; what could not be asked for may be there next time."""

    class Store(fs.LocalFileSystem):
        def get_file_info(self, _paths: object) -> object:
            raise OSError(number, "told by the store")

    monkeypatch.setattr("beam.filesystem.locate", lambda _uri: Location(Store(), "bucket/a.csv", "gs://"))
    with pytest.raises(SourceError, match="told by the store") as told:
        expand("gs://bucket/a.csv")
    assert type(told.value) is kind
    assert issubclass(kind, FINAL) == (kind is SourceNotFound)
