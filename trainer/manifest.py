"""Read and check `manifest.json`, the only description of a dataset that the trainer has.

It is checked before any row is read, and before TensorFlow is imported, so that a mistake is told within a second.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trainer.errors import DatasetError
from trainer.spec import ModelSpec
from trainer.storage import Directory

MANIFEST = "manifest.json"
REBUILD = "run the preprocess stage again, and read the directory that it names"
_FORMAT = 1


@dataclass(frozen=True)
class NumberStatistics:
    """Of one column of the training split, in its own unit."""

    mean: float
    standard_deviation: float
    minimum: float
    maximum: float


@dataclass(frozen=True)
class Manifest:
    """What the trainer uses of `manifest.json`.

    Attributes:
        numbers: statistics of the numeric columns, the label included, of the training split only.
        categories: how often each value occurs in the training split, in falling order of frequency.
    """

    uri: str
    train_files: tuple[str, ...]
    train_rows: int
    eval_files: tuple[str, ...]
    eval_rows: int
    numbers: dict[str, NumberStatistics]
    categories: dict[str, dict[str, int]]
    units: dict[str, str]
    digest: str


def read_manifest(directory: Directory, spec: ModelSpec) -> Manifest:
    """Read and check the manifest.

    Raises:
        DatasetError: it is missing, of another format or model, or has no rows to train on or to measure with.
    """
    place = f"{directory.uri}/{MANIFEST}"
    try:
        raw = json.loads(directory.read(MANIFEST))
    except FileNotFoundError as error:
        raise DatasetError(
            "the dataset has no manifest",
            value=MANIFEST,
            place=directory.uri,
            mend="the preprocess stage writes it last: wait for that stage to end, or correct --dataset",
        ) from error
    except json.JSONDecodeError as error:
        raise DatasetError("the manifest is not JSON", value=str(error), place=place, mend=REBUILD) from error
    try:
        _check_schema(raw, spec, place)
        manifest = _parse(raw, spec, directory.uri)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(
            "the manifest lacks a field, or holds one of another type",
            value=f"{type(error).__name__}: {error}",
            place=place,
            mend=REBUILD,
        ) from error
    _check_files([*manifest.train_files, *manifest.eval_files], place)
    return manifest


def _check_schema(raw: dict[str, Any], spec: ModelSpec, place: str) -> None:
    if raw["format"] != _FORMAT:
        raise DatasetError(
            f"this trainer reads manifests of format {_FORMAT}", value=raw["format"], place=place, mend=REBUILD
        )
    if raw["label"] != spec.label:
        raise DatasetError(
            f"model {spec.name} predicts {spec.label}",
            value=raw["label"],
            place=f"{place}, label",
            mend="choose the model of this dataset with --model, or correct --dataset",
        )
    found = {column["name"]: column["type"] for column in raw["columns"]}
    for name, expected in spec.column_types.items():
        if found.get(name) != expected:
            raise DatasetError(
                f"model {spec.name} needs the column {name} as {expected}",
                value=found.get(name, "absent"),
                place=f"{place}, columns",
                mend=REBUILD,
            )
    for split, purpose in (("train", "train on"), ("eval", "measure the model with")):
        if raw[split]["rows"] < 1:
            raise DatasetError(
                f"the {split} split has no rows to {purpose}",
                value=raw[split]["rows"],
                place=f"{place}, {split}.rows",
                mend="give the preprocess stage more data: a larger limit, or more months",
            )


def _parse(raw: dict[str, Any], spec: ModelSpec, uri: str) -> Manifest:
    statistics = raw["statistics"]
    numbers = {}
    for name in (spec.label, *(field.name for field in spec.numbers)):
        found = statistics[name]
        numbers[name] = NumberStatistics(
            float(found["mean"]), float(found["standard_deviation"]), float(found["min"]), float(found["max"])
        )
    categories = {}
    for category in spec.categories:
        counts = {str(value): int(count) for value, count in statistics[category.name]["values"].items() if count}
        categories[category.name] = dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
        if not counts:
            raise ValueError(f"statistics.{category.name}.values is empty")
    return Manifest(
        uri=uri,
        train_files=tuple(raw["train"]["files"]),
        train_rows=int(raw["train"]["rows"]),
        eval_files=tuple(raw["eval"]["files"]),
        eval_rows=int(raw["eval"]["rows"]),
        numbers=numbers,
        categories=categories,
        units={column["name"]: column.get("unit", "") for column in raw["columns"]},
        digest=str(raw["digest"]),
    )


def _check_files(files: Sequence[str], place: str) -> None:
    """A manifest names files beside itself; a path that leads elsewhere is refused."""
    for name in files:
        if not name or "/" in name or "\\" in name or name.startswith("."):
            raise DatasetError("a file name leads out of the dataset", value=name, place=place, mend=REBUILD)
