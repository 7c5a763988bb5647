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
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from beam import rejects
from beam.errors import NoGoodRows, OutputError
from beam.filesystem import Location, locate
from beam.manifest import DatasetSpec, build
from beam.shard_writer import ShardSummary, WrittenFile
from beam.totals import Totals

MANIFEST = "manifest.json"
TEMPORARY = "_tmp"
STARTED = "started"  # in an attempt's corner for as long as the directory is its own
PARALLEL_FILES = 16  # moves and deletions at once: each is a round trip to Cloud Storage
_FINAL_NAME = re.compile(r"(train|eval|rejects)-\d{5}-of-\d{5}\.(parquet|jsonl)")
_SHOWN_REASONS = 3


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
class _RejectFile:
    """A file of rejects by its final name: the shard's, with the rows before it, or nobody's and empty."""

    name: str
    summary: ShardSummary
    rows_before: int
    file: WrittenFile | None


def start_attempt(target: Target) -> None:
    """Delete what earlier attempts left, and see that the directory can be written.

    Raises:
        OutputError: the directory cannot be written.
    """
    try:
        _delete_all(target.directory / TEMPORARY)
        (target.temporary / STARTED).write_bytes(b"")  # better told now than after an hour of reading
    except OSError as error:
        reason = str(error).splitlines()[0][:300]
        raise OutputError(
            f"output {target.uri!r} cannot be written ({reason}); check bucket, path and access"
        ) from error


def publish(target: Target, spec: DatasetSpec, totals: Totals) -> dict[str, Any]:
    """Give the files their final names and write the manifest; safe to repeat after a crash within, and afterwards.

    Returns:
        The manifest.

    Raises:
        NoGoodRows: there is nothing to train on; the rejects are published all the same, to be looked at.
        OutputError: another attempt has taken the directory over; it is left as it is.
    """
    directory = target.directory
    rejected = _number_rejects(totals)
    moves = _final_names(totals, "train") + _final_names(totals, "eval") if totals.train_rows else []
    manifest = build(spec, totals, moves, [piece.name for piece in rejected])
    if (target.temporary / STARTED).size_bytes() is None:
        return _already_published(target, manifest)
    (directory / MANIFEST).delete_if_there()
    for piece in rejected:
        (directory / piece.name).write_bytes(_render(target, piece))
    with ThreadPoolExecutor(max_workers=PARALLEL_FILES) as pool:
        list(pool.map(lambda move: _move(target, *move), moves))
    kept = {*(piece.name for piece in rejected), *(name for _, name in moves)}
    _delete(directory, [name for name in directory.list_files(recursive=False) if _is_stale(name, kept)])
    if not totals.train_rows:
        raise NoGoodRows(_nothing_to_train_on(target, spec, totals, rejected[0].name))
    _write_manifest(directory, _as_bytes(manifest))
    clear_own(target)
    return manifest


def clear_own(target: Target) -> None:
    """Clear up after this attempt only: a newer one may have begun."""
    _delete_all(target.temporary)
    if target.directory.is_local:
        with contextlib.suppress(OSError):  # not empty: that newer attempt's
            Path(target.temporary.path).parent.rmdir()


def _already_published(target: Target, manifest: dict[str, Any]) -> dict[str, Any]:
    """A runner may repeat the last step after it has succeeded: then the manifest is there, and is this one."""
    place = target.directory / MANIFEST
    if place.size_bytes() is not None and place.read_bytes() == _as_bytes(manifest):
        return manifest
    raise OutputError(_taken_over(target, target.temporary / STARTED))


def _taken_over(target: Target, gone: Location) -> str:
    return f"{gone.uri!r} is gone: another job writes to {target.uri!r} too; give each job an output of its own"


def _as_bytes(manifest: dict[str, Any]) -> bytes:
    return json.dumps(manifest, indent=2, allow_nan=False).encode() + b"\n"


def _is_stale(name: str, kept: set[str]) -> bool:
    return _FINAL_NAME.fullmatch(name) is not None and name not in kept


def _final_names(totals: Totals, kind: str) -> list[tuple[WrittenFile, str]]:
    files = [file for summary in totals.summaries for file in summary.files.get(kind, ())]
    return [(file, f"{kind}-{number:05d}-of-{len(files):05d}.parquet") for number, file in enumerate(files)]


def _move(target: Target, file: WrittenFile, name: str) -> None:
    temporary, final = target.temporary / file.name, target.directory / name
    if temporary.size_bytes() is not None:
        final.filesystem.move(temporary.path, final.path)
    elif final.size_bytes() != file.size_bytes or hashlib.sha256(final.read_bytes()).hexdigest() != file.sha256:
        raise OutputError(_taken_over(target, temporary))


def _number_rejects(totals: Totals) -> list[_RejectFile]:
    """Name the files of rejects and count the rows before each; one file at least, so that none is an answer too."""
    found: list[tuple[ShardSummary, int, WrittenFile | None]] = []
    rows_before: dict[str, int] = {}
    for summary in totals.summaries:
        known = summary.rows_before
        first = rows_before.get(summary.place, 0) if known is None else known
        rows_before[summary.place] = first + summary.input_rows
        found += [(summary, first, file) for file in summary.files.get("rejects", ())]
    found = found or [(ShardSummary(0, "", None, 0), 0, None)]
    return [
        _RejectFile(f"rejects-{number:05d}-of-{len(found):05d}.jsonl", summary, first, file)
        for number, (summary, first, file) in enumerate(found)
    ]


def _render(target: Target, piece: _RejectFile) -> bytes:
    if piece.file is None:
        return b""
    place = target.temporary / piece.file.name
    try:
        with place.filesystem.open_input_file(place.path) as stream:
            table = pq.read_table(stream)
    except FileNotFoundError as error:
        raise OutputError(_taken_over(target, place)) from error
    shard = piece.summary
    return rejects.render(table, place=shard.place, rows_before=piece.rows_before, header_lines=shard.header_lines)


def _nothing_to_train_on(target: Target, spec: DatasetSpec, totals: Totals, reject_file: str) -> str:
    if totals.eval_rows:
        return (
            f"source {spec.source!r}: all {totals.eval_rows} good rows fall into the evaluation split, none into training; "
            "take rows of more months (a larger --limit, or more data)"
        )
    most = sorted(totals.rejects_by_reason.items(), key=lambda pair: (-pair[1], pair[0]))[:_SHOWN_REASONS]
    reasons = ", ".join(f"{reason}: {count}" for reason, count in most)
    where = (target.directory / reject_file).uri
    return f"source {spec.source!r}: all {totals.input_rows} rows were rejected ({reasons}); see {where} and mend the source"


def _write_manifest(directory: Location, data: bytes) -> None:
    if not directory.is_local:  # an object appears whole or not at all
        (directory / MANIFEST).write_bytes(data)
        return
    temporary = directory / TEMPORARY / MANIFEST
    temporary.write_bytes(data)
    directory.filesystem.move(temporary.path, (directory / MANIFEST).path)


def _delete_all(directory: Location) -> None:
    _delete(directory, directory.list_files())
    if directory.is_local and Path(directory.path).is_dir():
        directory.filesystem.delete_dir(directory.path)


def _delete(directory: Location, names: Sequence[str]) -> None:
    with ThreadPoolExecutor(max_workers=PARALLEL_FILES) as pool:
        list(pool.map(lambda name: (directory / name).delete_if_there(), names))
