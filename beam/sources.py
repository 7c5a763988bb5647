"""Turn the address of a source into shards: what to read is settled before the pipeline is built.

So a missing file, a column that is not there and an empty table stop the job at once, with one clear line, rather
than as the traceback of some worker half an hour later. Only names, headers, footers and a read session are asked for
here.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from beam import bigquery_source, csv_source, parquet_source
from beam.errors import EmptySource, UnsupportedSource
from beam.filesystem import Location, expand
from beam.shards import Columns, Shard

FOOTER_READERS = 16  # files whose header or footer is read at once: this waits for the network, not for a core


def plan(
    source: str, columns: Columns, *, workers: int = 1, project: str = "", limit: int | None = None
) -> list[Shard]:
    """Cut a source into shards, in an order that follows from the source alone.

    Args:
        source: a file, a directory or a pattern of .csv and .parquet files (local or gs://), or
        bq://project.dataset.table. columns: what the pipeline needs. workers: how many will read. project: who pays
        for reading BigQuery; empty: the table's own project. limit: take the first so many rows only: of the files
        sorted by name, each from its beginning.

    Raises:
        SourceError: the source cannot be used; the message says why.
        BadFlag: the source's address is malformed.
    """
    if source.startswith(bigquery_source.SCHEME):
        return list(bigquery_source.plan(source, columns, workers=workers, project=project, limit=limit))
    files = expand(source)
    shards = _plan_files(files, columns) if limit is None else _plan_first_rows(files, columns, limit)
    if not shards:
        raise EmptySource(
            f"source {source!r} has no row in its {len(files)} file(s); upload data and start the job again"
        )
    return shards


def _plan_files(files: Sequence[tuple[Location, int]], columns: Columns) -> list[Shard]:
    with ThreadPoolExecutor(max_workers=FOOTER_READERS) as pool:
        planned = list(pool.map(lambda pair: _planner(pair[0])(pair[0], pair[1], columns, None)[0], files))
    return [shard for shards in planned for shard in shards]


def _plan_first_rows(files: Sequence[tuple[Location, int]], columns: Columns, limit: int) -> list[Shard]:
    planned: list[Shard] = []
    left = limit
    for file, size_bytes in files:
        if left <= 0:
            break
        shards, rows = _planner(file)(file, size_bytes, columns, left)
        planned += shards
        left -= rows
    return planned


_Planner = Callable[[Location, int, Columns, int | None], tuple[Sequence[Shard], int]]


def _planner(file: Location) -> _Planner:
    name = file.path.lower()
    if name.endswith(".csv"):
        return csv_source.plan
    if name.endswith(".parquet"):
        return lambda place, _, columns, limit: parquet_source.plan(place, columns, limit)
    raise UnsupportedSource(f"source {file.uri!r} is neither .csv nor .parquet; convert it, or rename it to what it is")
