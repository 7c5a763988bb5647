"""`manifest.json`: the one description of a dataset that a trainer needs, its statistics of the training split included."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from beam.shard_writer import WrittenFile
from beam.totals import Totals

FORMAT = 1


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


def build(
    spec: DatasetSpec, totals: Totals, data_files: Sequence[tuple[WrittenFile, str]], reject_files: Sequence[str]
) -> dict[str, Any]:
    """Return the manifest of a dataset with these files; it follows from the arguments alone.

    Args:
        spec: what was not counted.
        totals: what was.
        data_files: the files of both splits, with their final names.
        reject_files: the final names of the rejects' files.
    """
    names = {kind: [name for _, name in data_files if name.startswith(kind)] for kind in ("train", "eval")}
    sha256_by_name = {name: file.sha256 for file, name in data_files}
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
            "files": list(reject_files),
        },
        "statistics": totals.statistics.as_dict(),
        "files": {
            name: {"rows": file.rows, "bytes": file.size_bytes, "sha256": file.sha256} for file, name in data_files
        },
        "digest": digest(sha256_by_name),
    }


def digest(sha256_by_name: Mapping[str, str]) -> str:
    """Return the digest of the data files: that of the lines that `sha256sum` prints for them, sorted by name.

    So it is found from the files' own digests, in whatever order and on however many machines those are computed;
    `sha256sum eval-*.parquet train-*.parquet | sha256sum` in the directory gives the same.
    """
    lines = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(sha256_by_name.items()))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"
