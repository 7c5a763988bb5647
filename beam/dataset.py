"""A dataset directory: numbered files under their final names, and last the manifest that makes it one.

    train-00000-of-00004.parquet …  eval-00000-of-00004.parquet …  rejects-00000-of-00001.jsonl  manifest.json

While a job runs, its files lie under `_tmp/<attempt>/`. `publish` moves them to their final names and writes the
manifest as its last act, so a directory with a manifest is whole, and one without is nobody's dataset. Each attempt
clears `_tmp/` when it starts: what a killed attempt left is gone, and one that only slept finds its files missing and
fails, instead of mixing its own into ours.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from beam import rejects
from beam.column_statistics import TableStatistics, add_counts
from beam.errors import NoGoodRows, OutputError
from beam.filesystem import Location, locate
from beam.shard_writer import ShardSummary, WrittenFile

FORMAT = 1
MANIFEST = "manifest.json"
TEMPORARY = "_tmp"
PARALLEL_FILES = 16  # moves and deletions at once: each is a round trip to Cloud Storage
_FINAL_NAME = re.compile(r"(train|eval|rejects)-\d{5}-of-\d{5}\.(parquet|jsonl)")
_SHOWN_REASONS = 3


@dataclass(frozen=True)
class DatasetSpec:
    """What the manifest says of a dataset besides what was counted.

    Attributes:
        pipeline: the pipeline's name.
        source: where the rows came from.
        label: the column to predict.
        columns: name, type and, where they have one, unit or vocabulary of each column.
        limit: how many rows of the source were asked for; None: all.
        run_id: the run that this job belongs to; empty outside of one.
    """

    pipeline: str
    source: str
    label: str
    columns: Sequence[Mapping[str, Any]]
    limit: int | None = None
    run_id: str = ""


@dataclass(frozen=True)
class Target:
    """Where an attempt writes: the dataset's directory and the attempt's own corner of it."""

    uri: str
    attempt: str

    @property
    def directory(self) -> Location:
        """The dataset's directory."""
        return locate(self.uri)

    @property
    def temporary(self) -> Location:
        """Where this attempt's files lie until they are published."""
        return self.directory / TEMPORARY / self.attempt


@dataclass(frozen=True)
class Totals:
    """All shards together; the summaries are in the order of the source."""

    summaries: tuple[ShardSummary, ...]
    input_rows: int = 0
    train_rows: int = 0
    eval_rows: int = 0
    rejects_by_reason: Mapping[str, int] = field(default_factory=dict)
    statistics: TableStatistics = field(default_factory=TableStatistics)

    @property
    def reject_rows(self) -> int:
        """How many rows were rejected."""
        return sum(self.rejects_by_reason.values())


def total(summaries: Iterable[ShardSummary]) -> Totals:
    """Add shards up, in the order of the source whatever the order they come in: sums of floats depend on it."""
    ordered = tuple(sorted(summaries, key=lambda summary: summary.index))
    statistics = TableStatistics()
    for summary in ordered:
        statistics = statistics.merge(summary.statistics)
    by_reason = add_counts(summary.rejects_by_reason for summary in ordered)
    return Totals(
        summaries=ordered,
        input_rows=sum(summary.input_rows for summary in ordered),
        train_rows=sum(summary.rows("train") for summary in ordered),
        eval_rows=sum(summary.rows("eval") for summary in ordered),
        rejects_by_reason=dict(sorted(by_reason.items())),
        statistics=statistics,
    )


def start_attempt(target: Target) -> None:
    """Delete what earlier attempts left, and see that the directory can be written.

    Raises:
        OutputError: the directory cannot be written.
    """
    try:
        _delete_all(target.directory / TEMPORARY)
        (target.temporary / "started").write_bytes(b"")  # better told now than after an hour of reading
    except OSError as error:
        reason = str(error).splitlines()[0][:300]
        raise OutputError(
            f"output {target.uri!r} cannot be written ({reason}); check bucket, path and access"
        ) from error


def publish(target: Target, spec: DatasetSpec, totals: Totals) -> dict[str, Any]:
    """Give the files their final names and write the manifest; safe to repeat after a crash within.

    Returns:
        The manifest.

    Raises:
        NoGoodRows: there is nothing to train on; the rejects are published all the same, to be looked at.
        OutputError: a file of this attempt is gone.
    """
    directory = target.directory
    (directory / MANIFEST).delete_if_there()
    reject_files = _publish_rejects(target, totals)
    moves = _final_names(totals, "train") + _final_names(totals, "eval") if totals.train_rows else []
    with ThreadPoolExecutor(max_workers=PARALLEL_FILES) as pool:
        list(pool.map(lambda move: _move(target, *move), moves))
    kept = {*reject_files, *(name for _, name in moves)}
    stale = [name for name in directory.list_files(recursive=False) if _FINAL_NAME.fullmatch(name) and name not in kept]
    _delete(directory, stale)
    if not totals.train_rows:
        _clear_own(target)
        raise NoGoodRows(_nothing_to_train_on(target, spec, totals, reject_files))
    manifest = _manifest(spec, totals, moves, reject_files)
    _write_manifest(directory, json.dumps(manifest, indent=2, allow_nan=False).encode() + b"\n")
    _clear_own(target)
    return manifest


def digest(sha256_by_name: Mapping[str, str]) -> str:
    """Return the digest of the data files: that of the lines that `sha256sum` prints for them, sorted by name.

    So it is found from the files' own digests, in whatever order and on however many machines those are computed;
    `sha256sum eval-*.parquet train-*.parquet | sha256sum` in the directory gives the same.
    """
    lines = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(sha256_by_name.items()))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def _manifest(
    spec: DatasetSpec, totals: Totals, moves: list[tuple[WrittenFile, str]], reject_files: list[str]
) -> dict[str, Any]:
    names = {kind: [name for _, name in moves if name.startswith(kind)] for kind in ("train", "eval")}
    sha256_by_name = {name: file.sha256 for file, name in moves}
    return {
        "format": FORMAT,
        "pipeline": spec.pipeline,
        "run_id": spec.run_id,
        "source": spec.source,
        "limit": spec.limit,
        "input_rows": totals.input_rows,
        "label": spec.label,
        "columns": [dict(column) for column in spec.columns],
        "train": {"files": names["train"], "rows": totals.train_rows},
        "eval": {"files": names["eval"], "rows": totals.eval_rows},
        "rejects": {
            "total": totals.reject_rows,
            "by_reason": dict(totals.rejects_by_reason),
            "files": reject_files,
        },
        "statistics": totals.statistics.as_dict(),
        "files": {name: {"rows": file.rows, "bytes": file.size_bytes, "sha256": file.sha256} for file, name in moves},
        "digest": digest(sha256_by_name),
    }


def _final_names(totals: Totals, kind: str) -> list[tuple[WrittenFile, str]]:
    files = [file for summary in totals.summaries for file in summary.files.get(kind, ())]
    return [(file, f"{kind}-{number:05d}-of-{len(files):05d}.parquet") for number, file in enumerate(files)]


def _move(target: Target, file: WrittenFile, name: str) -> None:
    temporary, final = target.temporary / file.name, target.directory / name
    if temporary.size_bytes() is not None:
        final.filesystem.move(temporary.path, final.path)
    elif final.size_bytes() != file.size_bytes or hashlib.sha256(final.read_bytes()).hexdigest() != file.sha256:
        raise OutputError(
            f"{temporary.uri!r} is gone: another job writes to {target.uri!r} too; give each job an output of its own"
        )


def _publish_rejects(target: Target, totals: Totals) -> list[str]:
    """Render the rejects as JSON lines with their final row numbers; one file at least, so that none is an answer too."""
    pieces: list[tuple[ShardSummary, int, WrittenFile | None]] = []
    rows_before: dict[str, int] = {}
    for summary in totals.summaries:
        known = summary.rows_before
        first = rows_before.get(summary.place, 0) if known is None else known
        rows_before[summary.place] = first + summary.input_rows
        pieces += [(summary, first, file) for file in summary.files.get("rejects", ())]
    names = [f"rejects-{number:05d}-of-{max(1, len(pieces)):05d}.jsonl" for number in range(max(1, len(pieces)))]
    if not pieces:
        (target.directory / names[0]).write_bytes(b"")
    for name, (summary, first, file) in zip(names, pieces, strict=False):
        (target.directory / name).write_bytes(_render(target, summary, first, file))
    return names


def _render(target: Target, summary: ShardSummary, rows_before: int, file: WrittenFile | None) -> bytes:
    if file is None:
        return b""
    place = target.temporary / file.name
    try:
        with place.filesystem.open_input_file(place.path) as stream:
            table = pq.read_table(stream)
    except FileNotFoundError as error:
        raise OutputError(
            f"{place.uri!r} is gone: another job writes to {target.uri!r} too; give each job an output of its own"
        ) from error
    return rejects.render(table, place=summary.place, rows_before=rows_before, header_lines=summary.header_lines)


def _nothing_to_train_on(target: Target, spec: DatasetSpec, totals: Totals, reject_files: list[str]) -> str:
    if totals.eval_rows:
        return (
            f"source {spec.source!r}: all {totals.eval_rows} good rows fall into the evaluation split, none into training; "
            "take rows of more months (a larger --limit, or more data)"
        )
    most = sorted(totals.rejects_by_reason.items(), key=lambda pair: (-pair[1], pair[0]))[:_SHOWN_REASONS]
    reasons = ", ".join(f"{reason}: {count}" for reason, count in most)
    where = (target.directory / reject_files[0]).uri
    return f"source {spec.source!r}: all {totals.input_rows} rows were rejected ({reasons}); see {where} and mend the source"


def _write_manifest(directory: Location, data: bytes) -> None:
    if not directory.is_local:  # an object appears whole or not at all
        (directory / MANIFEST).write_bytes(data)
        return
    temporary = directory / TEMPORARY / MANIFEST
    temporary.write_bytes(data)
    directory.filesystem.move(temporary.path, (directory / MANIFEST).path)


def _clear_own(target: Target) -> None:
    """Clear up after this attempt only: a newer one may have begun."""
    _delete_all(target.temporary)
    if target.directory.is_local:
        with contextlib.suppress(OSError):  # not empty: that newer attempt's
            Path(target.temporary.path).parent.rmdir()


def _delete_all(directory: Location) -> None:
    _delete(directory, directory.list_files())
    if directory.is_local and Path(directory.path).is_dir():
        directory.filesystem.delete_dir(directory.path)


def _delete(directory: Location, names: Sequence[str]) -> None:
    with ThreadPoolExecutor(max_workers=PARALLEL_FILES) as pool:
        list(pool.map(lambda name: (directory / name).delete_if_there(), names))
