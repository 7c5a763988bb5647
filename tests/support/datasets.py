"""Build a small training dataset directory from real births, without the Beam job: what the trainer's tests read.

It writes the same directory as the Beam job (Parquet shards for `train` and `eval`, a rejects file and, last,
`manifest.json`), from `samples/natality_2022.csv`. The split is the seed's: FarmHash of year and month, signed.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

SAMPLE_CSV = Path(__file__).parents[2] / "samples" / "natality_2022.csv"

_PLURALITY = {1: "Single(1)", 2: "Twins(2)", 3: "Triplets(3)", 4: "Quadruplets(4)", 5: "Quintuplets(5)"}
_NUMERIC_UNITS = {"weight_pounds": "lb", "mother_age": "years", "gestation_weeks": "weeks"}
_SCHEMA = pa.schema(
    [
        ("weight_pounds", pa.float32()),
        ("is_male", pa.string()),
        ("mother_age", pa.float32()),
        ("plurality", pa.string()),
        ("gestation_weeks", pa.float32()),
    ]
)
_U64 = (1 << 64) - 1
_K2 = 0x9AE16A3B2F90404F


def farm_fingerprint_short(text: str) -> int:
    """FarmHash Fingerprint64 of 4 to 7 ASCII bytes, signed as in BigQuery's FARM_FINGERPRINT.

    Only this length is needed: a year and a month make five or six digits.
    Source: google/farmhash, `HashLen0to16` in `farmhashna`.
    """
    data = text.encode("ascii")
    if not 4 <= len(data) <= 7:
        raise ValueError(f"{text!r} has {len(data)} bytes; this short form of FarmHash takes 4 to 7")
    multiplier = (_K2 + len(data) * 2) & _U64
    low = int.from_bytes(data[:4], "little")
    high = int.from_bytes(data[-4:], "little")
    mixed = ((len(data) + (low << 3)) ^ high) * multiplier & _U64
    mixed ^= mixed >> 47
    mixed = (high ^ mixed) * multiplier & _U64
    mixed ^= mixed >> 47
    unsigned = mixed * multiplier & _U64
    return unsigned - (1 << 64) if unsigned >> 63 else unsigned


def is_training_month(year: int, month: int) -> bool:
    """`ABS(MOD(FARM_FINGERPRINT(CONCAT(year, month)), 4)) < 3`, where BigQuery's MOD keeps the dividend's sign."""
    return abs(farm_fingerprint_short(f"{year}{month}")) % 4 < 3


@dataclass(frozen=True)
class Split:
    """The two tables of a dataset, in the columns that the trainer reads."""

    train: pa.Table
    evaluation: pa.Table


def births(limit: int | None = None) -> Split:
    """The sample's good rows, each birth twice (with and without ultrasound), split by month."""
    raw = pacsv.read_csv(SAMPLE_CSV)
    good = raw.drop_null() if limit is None else raw.slice(0, limit).drop_null()
    in_train = np.array(
        [is_training_month(y, m) for y, m in zip(good["year"].to_pylist(), good["month"].to_pylist(), strict=True)]
    )
    return Split(_both_views(good.filter(pa.array(in_train))), _both_views(good.filter(pa.array(~in_train))))


def _both_views(good: pa.Table) -> pa.Table:
    plurality = good["plurality"].to_pylist()
    common = {name: good[name].cast(pa.float32()) for name in _NUMERIC_UNITS}
    with_ultrasound = {
        "is_male": ["True" if value else "False" for value in good["is_male"].to_pylist()],
        "plurality": [_PLURALITY[count] for count in plurality],
    }
    without = {
        "is_male": ["Unknown"] * len(good),
        "plurality": ["Single(1)" if count == 1 else "Multiple(2+)" for count in plurality],
    }
    views = [pa.table({**common, **view}).select(_SCHEMA.names).cast(_SCHEMA) for view in (with_ultrasound, without)]
    return pa.concat_tables(views)


def write_dataset(directory: Path, split: Split, *, train_shards: int = 2) -> Path:
    """Write the directory; `manifest.json` comes last, as the Beam job does it."""
    directory.mkdir(parents=True, exist_ok=True)
    train_files = _write_shards(directory, "train", split.train, train_shards)
    eval_files = _write_shards(directory, "eval", split.evaluation, 1)
    rejects = "rejects-00000-of-00001.jsonl"
    (directory / rejects).write_text("")
    manifest = {
        "format": 1,
        "pipeline": "babyweight",
        "source": SAMPLE_CSV.name,
        "input_rows": (len(split.train) + len(split.evaluation)) // 2,
        "label": "weight_pounds",
        "columns": [_column(field) for field in _SCHEMA],
        "train": {"files": train_files, "rows": len(split.train)},
        "eval": {"files": eval_files, "rows": len(split.evaluation)},
        "rejects": {"total": 0, "by_reason": {}, "files": [rejects]},
        "statistics": {field.name: _statistics(split.train[field.name]) for field in _SCHEMA},
        "digest": _digest(directory, [*train_files, *eval_files]),
    }
    (directory / "manifest.json").write_text(json.dumps(manifest, indent=2))
    return directory


def _write_shards(directory: Path, name: str, table: pa.Table, shards: int) -> list[str]:
    files = []
    for shard in range(shards):
        start, stop = (len(table) * shard // shards, len(table) * (shard + 1) // shards)
        files.append(f"{name}-{shard:05d}-of-{shards:05d}.parquet")
        pq.write_table(table.slice(start, stop - start), directory / files[-1])
    return files


def _column(field: pa.Field) -> dict[str, str]:
    column = {"name": field.name, "type": "float32" if pa.types.is_floating(field.type) else "string"}
    return column | ({"unit": _NUMERIC_UNITS[field.name]} if field.name in _NUMERIC_UNITS else {})


def _statistics(column: pa.ChunkedArray) -> dict[str, Any]:
    if pa.types.is_string(column.type):
        counted = pc.value_counts(column).to_pylist()
        return {"values": {pair["values"]: pair["counts"] for pair in counted}}
    if not len(column):
        return {"count": 0, "mean": None, "standard_deviation": None, "min": None, "max": None}
    values = column.cast(pa.float64())
    return {
        "count": len(values),
        "mean": pc.mean(values).as_py(),
        "standard_deviation": pc.stddev(values).as_py(),
        "min": pc.min(values).as_py(),
        "max": pc.max(values).as_py(),
    }


def _digest(directory: Path, files: list[str]) -> str:
    sha256 = hashlib.sha256()
    for name in sorted(files):
        sha256.update((directory / name).read_bytes())
    return f"sha256:{sha256.hexdigest()}"
