"""A dataset is read as columns, and refused where it is not what its manifest says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support import datasets
from trainer.babyweight import SPEC
from trainer.data import (
    CategoryColumn,
    Columns,
    read_columns,
    refuse_unlisted,
    split_validation,
    take,
    unknown_categories,
)
from trainer.errors import DatasetError
from trainer.manifest import Manifest, read_manifest
from trainer.storage import LocalDirectory


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return datasets.write_dataset(tmp_path, datasets.births(limit=400))


def read_all(dataset: Path) -> tuple[Manifest, Columns]:
    directory = LocalDirectory(dataset)
    manifest = read_manifest(directory, SPEC)
    return manifest, read_columns(directory, manifest.train_files, manifest.train_rows, SPEC)


def change_manifest(dataset: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = dataset / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def rewrite_shard(dataset: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    path = next(dataset.glob("train-00000-*.parquet"))
    pq.write_table(change(pq.read_table(path)), path)


def test_rows_are_read_unchanged_and_in_order(dataset: Path) -> None:
    """What the shards hold is what training sees: every row, in the manifest's order of files."""
    _, columns = read_all(dataset)
    expected = datasets.births(limit=400).train
    for name in SPEC.column_types:
        column = columns[name]
        found = column.strings() if isinstance(column, CategoryColumn) else column.tolist()
        assert found == expected[name].to_pylist()


def test_statistics_are_those_of_the_training_split(dataset: Path) -> None:
    """Means come from the manifest's training split, vocabularies from the values it counts."""
    manifest, columns = read_all(dataset)
    age = columns["mother_age"]
    assert not isinstance(age, CategoryColumn)
    assert manifest.numbers["mother_age"].mean == pytest.approx(float(age.mean()), rel=1e-6)
    assert sum(manifest.categories["is_male"].values()) == manifest.train_rows


def test_a_missing_manifest_says_that_the_dataset_is_not_finished(tmp_path: Path) -> None:
    """The manifest is written last; without it the message says where it was looked for, and what to do."""
    with pytest.raises(DatasetError, match=r"manifest\.json.*wait for that stage.*--dataset") as refusal:
        read_manifest(LocalDirectory(tmp_path / "nowhere"), SPEC)
    assert str(tmp_path / "nowhere") in str(refusal.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m["train"].update(rows=0), ["train split has no rows", "more data"]),
        (lambda m: m["eval"].update(rows=0), ["eval split has no rows"]),
        (lambda m: m.update(label="height"), ["height", "weight_pounds", "--model"]),
        (lambda m: m.update(format=9), ["9", "format 1"]),
        (lambda m: m["columns"].pop(2), ["mother_age", "absent"]),
        (lambda m: m["columns"][2].update(type="string"), ["mother_age", "float32"]),
        (lambda m: m["statistics"].pop("plurality"), ["plurality"]),
        (lambda m: m["statistics"]["plurality"].update(values={}), ["plurality"]),
        (lambda m: m.pop("train"), ["train"]),
        (lambda m: m["train"].update(files=["../secret.parquet"]), ["../secret.parquet", "leads out"]),
    ],
)
def test_a_manifest_of_another_shape_is_refused(
    dataset: Path, change: Callable[[dict[str, Any]], object], words: list[str]
) -> None:
    """Each mistake is refused before any row is read, naming the field."""
    change_manifest(dataset, change)
    with pytest.raises(DatasetError) as refusal:
        read_manifest(LocalDirectory(dataset), SPEC)
    assert all(word in str(refusal.value) for word in ["manifest.json", *words])


def test_a_manifest_that_is_not_json_is_refused(dataset: Path) -> None:
    """A torn file is named as such."""
    (dataset / "manifest.json").write_text("{")
    with pytest.raises(DatasetError, match="not JSON"):
        read_manifest(LocalDirectory(dataset), SPEC)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.slice(1), ["promises", "rows"]),
        (lambda t: t.drop_columns(["plurality"]), ["lacks columns", "plurality"]),
        (lambda t: t.set_column(2, "mother_age", t["mother_age"].cast(pa.float64())), ["mother_age", "double"]),
        (lambda t: t.set_column(2, "mother_age", pa.nulls(len(t), pa.float32())), ["mother_age", "nulls or NaN"]),
        (
            lambda t: t.set_column(2, "mother_age", pa.array(np.full(len(t), np.nan, np.float32))),
            ["mother_age", "nulls or NaN"],
        ),
    ],
)
def test_a_shard_that_breaks_the_manifests_promise_is_refused(
    dataset: Path, change: Callable[[pa.Table], pa.Table], words: list[str]
) -> None:
    """Missing rows or columns, other types, nulls and NaN are refused with the file's name."""
    rewrite_shard(dataset, change)
    with pytest.raises(DatasetError) as refusal:
        read_all(dataset)
    assert all(word in str(refusal.value) for word in ["train-00000", *words])


def test_a_shard_that_is_missing_or_no_parquet_is_refused(dataset: Path) -> None:
    """The message names the file."""
    shard = next(dataset.glob("train-00000-*.parquet"))
    shard.write_bytes(b"not parquet at all")
    with pytest.raises(DatasetError, match=shard.name):
        read_all(dataset)
    shard.unlink()
    with pytest.raises(DatasetError, match=f"not there.*{shard.name}"):
        read_all(dataset)


def test_a_training_category_that_the_statistics_do_not_list_is_refused(dataset: Path) -> None:
    """Unknown categories in training rows mean that manifest and rows do not belong together."""
    manifest, columns = read_all(dataset)
    refuse_unlisted(columns, manifest, SPEC)
    change_manifest(dataset, lambda m: m["statistics"]["plurality"]["values"].pop("Single(1)"))
    manifest, columns = read_all(dataset)
    with pytest.raises(DatasetError, match=r"plurality.*Single\(1\)"):
        refuse_unlisted(columns, manifest, SPEC)


def test_unknown_categories_of_the_held_out_rows_are_counted(dataset: Path) -> None:
    """A category which training never saw is reported by name and count."""
    manifest, columns = read_all(dataset)
    columns["plurality"] = CategoryColumn(["Single(1)", "Quintuplets(5)"], np.array([0, 1, 1], np.int32))
    assert unknown_categories(columns, manifest, SPEC) == {"plurality": {"Quintuplets(5)": 2}}


def cases(columns: Columns, rows: Any) -> set[tuple[float, ...]]:
    part = take(columns, rows)
    return set(zip(*(part[name].tolist() for name in SPEC.one_case), strict=True))  # type: ignore[union-attr]


def test_validation_rows_share_no_birth_with_training_rows(dataset: Path) -> None:
    """Both views of one birth are on one side, about a tenth of the rows is set aside, and none is lost."""
    _, columns = read_all(dataset)
    train, validation = split_validation(columns, SPEC)
    assert not cases(columns, train) & cases(columns, validation)
    assert sorted([*train, *validation]) == list(range(len(columns["mother_age"])))
    assert 0.05 < len(validation) / len(columns["mother_age"]) < 0.2


def test_validation_does_not_depend_on_the_order_of_the_rows(dataset: Path) -> None:
    """Shards may come in another order; the same births are set aside."""
    _, columns = read_all(dataset)
    shuffled = take(columns, np.random.default_rng(0).permutation(len(columns["mother_age"])))
    expected = cases(columns, split_validation(columns, SPEC)[1])
    assert cases(shuffled, split_validation(shuffled, SPEC)[1]) == expected


def test_two_births_make_two_sides_and_one_is_refused(dataset: Path) -> None:
    """The smallest dataset has one birth on either side."""
    _, columns = read_all(dataset)
    two = take(columns, np.array([0, 1]))
    train, validation = split_validation(two, SPEC)
    assert len(train) == len(validation) == 1
    with pytest.raises(DatasetError, match="two different cases"):
        split_validation(take(columns, np.array([0, 0])), SPEC)
