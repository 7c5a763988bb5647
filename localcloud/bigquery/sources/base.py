"""What every file format offers to a load job."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from localcloud.bigquery.errors import Invalid
from localcloud.bigquery.schema import Field

# The column of a source's query that holds what is wrong with a row; no BigQuery column may begin with two underscores
# and this word, because `names.check_column` is asked before.
COMPLAINT = "__complaint"


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file in `incoming`, and how the caller knows it (a gs:// URI, or the upload)."""

    path: Path
    shown: str


@dataclass(slots=True)
class Rejects:
    """Rows that the format's reader itself refused (too many columns, say): how many, and a few of them in words."""

    count: int = 0
    # True when counting stopped early, so that there are more.
    is_cut: bool = False
    messages: list[str] = field(default_factory=list)


def numbered_complaints(table: str) -> str:
    """SQL for the bad rows of a parsed table, numbered from 1 in the file's order (rowid is not that before a commit)."""
    return (
        f"SELECT number, {COMPLAINT} FROM (SELECT row_number() OVER () AS number, {COMPLAINT} FROM {table}) "  # noqa: S608
        f"WHERE {COMPLAINT} IS NOT NULL ORDER BY number"
    )


# A row longer than this is a bad one. BigQuery's own limit is 100 MB; the reader holds several rows in memory.
MAX_LINE_BYTES = 16 * 1024 * 1024


def compression(files: list[LocalFile]) -> str:
    """`gzip` or `none`, told by the first bytes, not by the name.

    Raises:
        Invalid: some files are compressed and some are not.
    """
    found = {_is_gzip(one.path) for one in files}
    if len(found) > 1:
        raise Invalid(
            f"Some of {[one.shown for one in files][:5]} are gzip-compressed and some are not; load them apart."
        )
    return "gzip" if found == {True} else "none"


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(2) == b"\x1f\x8b"


class Source(Protocol):
    """One load job's files, of one format."""

    # False: the files are all good or all bad, so nothing has to be set apart.
    tolerates_bad_rows: bool

    def detect(self, cursor: Any) -> list[Field]:
        """The schema that the files themselves show."""
        ...

    def query(self, fields: list[Field]) -> str:
        """SQL with one column per field, in that order, and COMPLAINT last."""
        ...

    def rejects(self, cursor: Any) -> Rejects:
        """What the reader refused while the query ran (same transaction)."""
        ...
