"""Read sessions: a snapshot of a table's rows as an Arrow file, cut into streams by row numbers.

The snapshot is written once, when the session is made; whatever happens to the table later, every stream reads the same
rows, and a killed server finds the session again. A stream's name carries the rows it stands for, so splitting one is
arithmetic and needs no state.
"""

from __future__ import annotations

import bisect
import itertools
import json
import re
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localcloud.bigquery import catalog
from localcloud.bigquery.engine import Engine
from localcloud.bigquery.errors import Invalid, NotFound, Unsupported
from localcloud.bigquery.googlesql.errors import explain
from localcloud.bigquery.googlesql.translate import translate_condition
from localcloud.bigquery.names import TableRef, check_dataset, check_project, check_table, quote
from localcloud.bigquery.schema import Field, arrow_schema, find

# As Google's: a session can be read for at least six hours.
LIFETIME_S = 6 * 3600
# Rows taken from DuckDB at a time; also the most that one message carries.
_BATCH_ROWS = 64 * 1024
# A message stays below gRPC's default limit of 4 MiB, which a channel made without options has.
_MESSAGE_BYTES = 2 * 1024 * 1024
# What Google starts with when the caller leaves the number of streams open; more would be cut too thin on a laptop.
_DEFAULT_STREAMS = 4
_MAX_STREAMS = 1000
# A stream shorter than this is not worth a connection.
_MIN_STREAM_ROWS = 1000

_TABLE = re.compile(r"projects/([^/]+)/datasets/([^/]+)/tables/([^/]+)")
_STREAM = re.compile(r"projects/([^/]+)/locations/([^/]+)/sessions/([0-9a-f]{32})/streams/r(\d+)-(\d+)")


@dataclass(frozen=True, slots=True)
class Session:
    """A session as it is kept: `rows` in the snapshot, of which each stream reads a range."""

    name: str
    table: str
    rows: int
    size_bytes: int
    expires_s: float
    streams: int

    def stream_names(self) -> list[str]:
        """The streams, which together read each row once; none for an empty table."""
        bounds = [self.rows * at // self.streams for at in range(self.streams + 1)] if self.streams else []
        return [f"{self.name}/streams/r{low}-{high}" for low, high in itertools.pairwise(bounds)]


@dataclass(frozen=True, slots=True)
class Stream:
    """A range of a session's rows."""

    session: str
    first: int
    end: int
    name: str


def parse_stream(name: str) -> Stream:
    """Read a stream's name; raises Invalid."""
    found = _STREAM.fullmatch(name)
    if found is None or int(found.group(4)) > int(found.group(5)):
        raise Invalid(
            f"Invalid stream name {name[:200]!r}; use one that CreateReadSession or SplitReadStream answered."
        )
    return Stream(found.group(3), int(found.group(4)), int(found.group(5)), name)


def split(name: str, fraction: float) -> tuple[str, str]:
    """Two streams that read what this one reads, cut at the fraction; raises Invalid."""
    stream = parse_stream(name)
    if not 0.0 < fraction < 1.0:
        raise Invalid(f"fraction is {fraction}; it must lie between 0 and 1, both excluded.")
    cut = stream.first + round((stream.end - stream.first) * fraction)
    prefix = name.rpartition("/r")[0]
    return f"{prefix}/r{stream.first}-{cut}", f"{prefix}/r{cut}-{stream.end}"


class Sessions:
    """The sessions of one data directory. Methods block."""

    def __init__(self, engine: Engine, root: Path, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._root = root
        self._clock = clock

    def create(
        self, parent: str, table: str, fields: list[str], restriction: str, most: int, preferred: int
    ) -> Session:
        """Take a snapshot.

        Args:
            parent: `projects/<project>`, who pays.
            table: `projects/…/datasets/…/tables/…`.
            fields: the columns wanted; all when empty.
            restriction: a GoogleSQL condition, or empty.
            most: streams at most; 0 for no limit.
            preferred: streams at least, if the rows suffice.

        Raises:
            NotFound, Invalid, InvalidQuery, Unsupported.
        """
        ref = parse_table(table)
        project = check_project(parent.removeprefix("projects/"))
        key = uuid.uuid4().hex
        self.sweep()
        with self._engine.read() as cursor:
            found = catalog.get_table(cursor, ref, int(self._clock() * 1000))
            chosen = _chosen(found.fields, fields, ref)
            columns = ", ".join(quote(one["name"]) for one in chosen)
            where = f" WHERE {translate_condition(restriction)}" if restriction.strip() else ""
            sql = f"SELECT {columns} FROM {found.source}{where}"  # noqa: S608 - our names, the translator's condition
            try:
                starts, size = self._write(cursor, sql, chosen, key)
            except Exception as error:
                self._data(key).unlink(missing_ok=True)
                raise explain(error, restriction) from error
        rows = starts[-1]
        location = found.doc.get("location", "US").lower()
        name = f"projects/{project}/locations/{location}/sessions/{key}"
        session = Session(name, table, rows, size, self._clock() + LIFETIME_S, _stream_count(rows, most, preferred))
        head = {"name": name, "table": table, "expires": session.expires_s, "starts": starts}
        _replace(self._head(key), json.dumps(head).encode())
        return session

    def batches(self, stream: Stream, offset: int) -> Iterator[Any]:
        """Record batches of a stream from a row offset on, each small enough for one message.

        Raises:
            NotFound: the session is gone.
            Invalid: an offset past the stream's end.
        """
        snapshot = self.snapshot(stream)
        if offset < 0 or stream.first + offset > stream.end:
            raise Invalid(f"offset {offset} lies past the {stream.end - stream.first} rows of {stream.name}.")
        yield from snapshot.batches(stream.first + offset, stream.end)

    def snapshot(self, stream: Stream) -> Snapshot:
        """The snapshot behind a stream, mapped anew: what is kept open would count as memory of ours."""
        head = self._read_head(stream)
        found = Snapshot(self._data(stream.session), head["starts"])
        if stream.end > found.rows:
            raise Invalid(f"Invalid stream name {stream.name!r}: its session has {found.rows} rows.")
        return found

    def sweep(self) -> None:
        """Remove sessions past their time, and what a killed process left half-written."""
        if not self._root.is_dir():
            return
        now = self._clock()
        for data in self._root.glob("*.arrow"):
            head = data.with_suffix(".json")
            try:
                expired = json.loads(head.read_bytes())["expires"] < now
            except FileNotFoundError:
                expired = data.stat().st_mtime + LIFETIME_S < time.time()
            if expired:
                head.unlink(missing_ok=True)
                data.unlink(missing_ok=True)

    def _write(self, cursor: Any, sql: str, fields: list[Field], key: str) -> tuple[list[int], int]:
        """Write the snapshot; the row number at which each batch begins (the total last), and the bytes."""
        import pyarrow as pa

        self._root.mkdir(parents=True, exist_ok=True)
        schema = arrow_schema(fields)
        starts, size = [0], 0
        with pa.OSFile(str(self._data(key)), "wb") as out, pa.ipc.new_file(out, schema) as writer:
            for batch in cursor.sql(sql).to_arrow_reader(_BATCH_ROWS):
                for part in _fitting(pa.RecordBatch.from_arrays(_cast(batch, schema), schema=schema)):
                    writer.write_batch(part)
                    starts.append(starts[-1] + part.num_rows)
                    size += part.nbytes
        return starts, size

    def _read_head(self, stream: Stream) -> dict[str, Any]:
        try:
            head: dict[str, Any] = json.loads(self._head(stream.session).read_bytes())
        except FileNotFoundError:
            raise NotFound(f"Session not found or expired: {stream.name}; create a new read session.") from None
        if not stream.name.startswith(f"{head['name']}/") or head["expires"] < self._clock():
            raise NotFound(f"Session not found or expired: {stream.name}; create a new read session.")
        return head

    def _head(self, key: str) -> Path:
        return self._root / f"{key}.json"

    def _data(self, key: str) -> Path:
        return self._root / f"{key}.arrow"


class Snapshot:
    """An Arrow file, mapped into memory: the pages are the kernel's, and shared by all streams."""

    def __init__(self, path: Path, starts: list[int]) -> None:
        import pyarrow as pa

        self.rows = starts[-1]
        self._starts = starts
        self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self.schema = self._reader.schema

    def batches(self, first: int, end: int) -> Iterator[Any]:
        """Batches that hold exactly the rows from `first` to `end`."""
        at = bisect.bisect_right(self._starts, first) - 1
        while first < end and at < self._reader.num_record_batches:
            begin = self._starts[at]
            batch = self._reader.get_batch(at)
            part = batch.slice(first - begin, min(end, begin + batch.num_rows) - first)
            if part.num_rows:
                yield part
                first += part.num_rows
            at += 1


def parse_table(table: str) -> TableRef:
    """Read `projects/…/datasets/…/tables/…`; raises Invalid."""
    found = _TABLE.fullmatch(table)
    if found is None:
        raise Invalid(f"Invalid table {table[:200]!r}; write projects/<project>/datasets/<dataset>/tables/<table>.")
    project, dataset, name = found.groups()
    return TableRef(check_project(project), check_dataset(dataset), check_table(name))


def _chosen(fields: list[Field], names: list[str], ref: TableRef) -> list[Field]:
    if not fields:
        raise Invalid(f"{ref} has no schema, so it has no columns to read.")
    wanted = set()
    for name in names:
        field = find(fields, name)
        if field is None and "." in name:
            raise Unsupported(
                f"selected_fields {name!r}: nested fields cannot be selected locally; select {name.split('.')[0]!r}."
            )
        if field is None:
            raise Invalid(f"The following selected fields do not exist in the table schema: {name} (table {ref}).")
        wanted.add(field["name"])
    return [one for one in fields if one["name"] in wanted] if wanted else fields


def _stream_count(rows: int, most: int, preferred: int) -> int:
    if not rows:
        return 0
    wanted = max(preferred, most or _DEFAULT_STREAMS)
    if most:
        wanted = min(wanted, most)
    if most < 1 and not preferred:
        wanted = min(wanted, -(-rows // _MIN_STREAM_ROWS))
    return max(1, min(wanted, rows, _MAX_STREAMS))


def _cast(batch: Any, schema: Any) -> list[Any]:
    return [
        column if column.type == field.type else column.cast(field.type)
        for column, field in zip(batch.columns, schema, strict=True)
    ]


def _fitting(batch: Any) -> Iterator[Any]:
    """Halve a batch until each part fits into a message; one row too big goes alone."""
    if batch.num_rows <= 1 or batch.nbytes <= _MESSAGE_BYTES:
        yield batch
        return
    half = batch.num_rows // 2
    yield from _fitting(batch.slice(0, half))
    yield from _fitting(batch.slice(half))


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
