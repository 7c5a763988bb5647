"""Publishing: final names, the manifest last, and right again after any crash."""

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam import births, dataset, rejects, shard_writer
from beam.dataset import Target, publish, start_attempt
from beam.errors import NoGoodRows, OutputError
from beam.filesystem import Location
from beam.manifest import DatasetSpec
from beam.shard_writer import ShardSummary, ShardWriter
from beam.totals import total

SPEC = DatasetSpec("babyweight", "births.csv", "weight_pounds", [{"name": "weight_pounds", "type": "float32"}])


def rows(*weights: float) -> pa.Table:
    """Examples with these weights."""
    others = {"is_male": "True", "mother_age": 30.0, "plurality": "Single(1)", "gestation_weeks": 40.0}
    values = {"weight_pounds": list(weights), **{name: [value] * len(weights) for name, value in others.items()}}
    plain = pa.schema([(field.name, _plain(field.type)) for field in births.SCHEMA])
    return pa.table({name: values[name] for name in births.SCHEMA.names}, schema=plain).cast(births.SCHEMA)


def _plain(kind: pa.DataType) -> pa.DataType:
    return pa.string() if pa.types.is_dictionary(kind) else kind


def rejected(*numbers: int) -> pa.Table:
    values = [str(number) for number in numbers]
    return rejects.table(np.array(numbers, np.int64), field="a", values=values, reason="a is odd", rule="even")


def write(
    target: Target,
    index: int,
    *,
    train: pa.Table | None = None,
    evaluation: pa.Table | None = None,
    bad: pa.Table | None = None,
    input_rows: int = 10,
    rows_before: int | None = None,
) -> ShardSummary:
    writer = ShardWriter(target.temporary, index)
    writer.add(train or rows(), evaluation or rows(), bad or rejected())
    return writer.close(ShardSummary(index, "births.csv", rows_before, 1, input_rows=input_rows))


@pytest.fixture
def target(tmp_path: Path) -> Target:
    """A new attempt in a new directory."""
    target = Target(str(tmp_path / "dataset"), "one")
    start_attempt(target)
    return target


def two_shards(target: Target) -> list[ShardSummary]:
    return [
        write(target, 0, train=rows(1, 2), evaluation=rows(3), bad=rejected(4), rows_before=0),
        write(target, 1, train=rows(5), bad=rejected(0, 9)),
    ]


def files(target: Target) -> list[str]:
    return target.directory.list_files()


def test_files_are_numbered_and_the_manifest_counts_them(target: Target) -> None:
    """Only shards with rows of a kind have a file of it; the manifest names the files and what is in them."""
    manifest = publish(target, SPEC, total(two_shards(target)))
    assert files(target) == [
        "eval-00000-of-00001.parquet",
        "manifest.json",
        "rejects-00000-of-00002.jsonl",
        "rejects-00001-of-00002.jsonl",
        "train-00000-of-00002.parquet",
        "train-00001-of-00002.parquet",
    ]
    assert manifest["train"] == {"files": ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"], "rows": 3}
    assert manifest["eval"] == {"files": ["eval-00000-of-00001.parquet"], "rows": 1}
    assert manifest["rejects"]["total"] == 3
    assert manifest["rejects"]["by_reason"] == {"a is odd": 3}
    assert manifest["input_rows"] == 20
    assert manifest == json.loads((target.directory / "manifest.json").read_bytes())


def test_statistics_are_those_of_the_training_rows_alone(target: Target) -> None:
    """Evaluation rows leave no trace in what the model is scaled by."""
    statistics = publish(target, SPEC, total(two_shards(target)))["statistics"]
    weights = np.array([1.0, 2.0, 5.0])
    assert statistics["weight_pounds"] == pytest.approx(
        {"count": 3, "mean": weights.mean(), "standard_deviation": weights.std(), "min": 1.0, "max": 5.0}
    )
    assert statistics["is_male"] == {"values": {"True": 3}}


def test_any_reader_gets_plain_strings(target: Target) -> None:
    """The files say float and string, not Arrow's dictionaries."""
    publish(target, SPEC, total(two_shards(target)))
    schema = pq.read_schema(Path(target.uri) / "train-00000-of-00002.parquet")
    assert [str(field.type) for field in schema] == ["float", "string", "float", "string", "float"]


def test_rejects_are_numbered_over_the_whole_file(target: Target) -> None:
    """A shard in the middle of a file numbers its rows on from the shards before it."""
    publish(target, SPEC, total(two_shards(target)))
    text = (target.directory / "rejects-00001-of-00002.jsonl").read_bytes().decode()
    assert [(line["row"], line["line"]) for line in map(json.loads, text.splitlines())] == [(11, 12), (20, 21)]


def test_no_rejects_are_one_empty_file(target: Target) -> None:
    """That nothing was rejected can be read too."""
    publish(target, SPEC, total([write(target, 0, train=rows(1))]))
    assert (target.directory / "rejects-00000-of-00001.jsonl").size_bytes() == 0


def test_the_digest_does_not_depend_on_the_order_of_the_shards(tmp_path: Path) -> None:
    """Shards end in any order; files, statistics to the last digit, and digest are the same."""
    manifests = []
    for seed in range(3):
        target = Target(str(tmp_path / str(seed)), "one")
        start_attempt(target)
        summaries = [write(target, index, train=rows(0.1 * index + 0.3, 7.7), input_rows=1) for index in range(6)]
        random.Random(seed).shuffle(summaries)
        manifests.append(publish(target, SPEC, total(summaries)))
    assert manifests[0] == manifests[1] == manifests[2]


def test_the_digest_is_what_sha256sum_gives(target: Target) -> None:
    """Anybody can check it with the usual tool: `sha256sum eval-*.parquet train-*.parquet | sha256sum`."""
    manifest = publish(target, SPEC, total(two_shards(target)))
    lines = [
        f"{hashlib.sha256((target.directory / name).read_bytes()).hexdigest()}  {name}\n"
        for name in files(target)
        if name.endswith(".parquet")
    ]
    assert manifest["digest"] == "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


def test_what_another_run_left_is_gone(target: Target) -> None:
    """Files of a larger dataset, a half-written one, and other attempts' files do not survive a new one."""
    for name in ("train-00000-of-00009.parquet", "train-00008-of-00009.parquet", "rejects-00003-of-00009.jsonl"):
        (target.directory / name).write_bytes(b"old")
    again = Target(target.uri, "two")
    start_attempt(again)
    publish(again, SPEC, total([write(again, 0, train=rows(1), evaluation=rows(2))]))
    assert files(again) == [
        "eval-00000-of-00001.parquet",
        "manifest.json",
        "rejects-00000-of-00001.jsonl",
        "train-00000-of-00001.parquet",
    ]


def test_files_of_the_user_are_left_alone(target: Target) -> None:
    """Only names that a dataset gives are cleared."""
    (target.directory / "notes.txt").write_bytes(b"mine")
    publish(target, SPEC, total([write(target, 0, train=rows(1))]))
    assert (target.directory / "notes.txt").read_bytes() == b"mine"


@pytest.mark.parametrize("calls", range(1, 6))
def test_publishing_again_after_a_crash_ends_well(target: Target, monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    """Cut off after any of its moves, with no manifest there yet, a repeat ends in the same dataset."""
    totals = total(two_shards(target))
    left = [calls]
    move = dataset._move

    def dying(*arguments: Any) -> None:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        move(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(dataset, "PARALLEL_FILES", 1)
        patch.setattr(dataset, "_move", dying)
        patch.setattr(dataset, "_write_manifest", _die)
        with pytest.raises(KeyboardInterrupt):
            publish(target, SPEC, totals)
    assert "manifest.json" not in files(target)
    manifest = publish(target, SPEC, totals)
    assert (target.directory / "manifest.json").size_bytes()
    assert manifest["train"]["rows"] == 3


def _die(*_: Any) -> None:
    raise KeyboardInterrupt


def test_an_old_manifest_goes_before_its_files_change(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads the old manifest over new files: it is deleted before the first move."""
    publish(target, SPEC, total(two_shards(target)))
    again = Target(target.uri, "two")
    start_attempt(again)
    assert (again.directory / "manifest.json").size_bytes()  # an attempt that reads for an hour leaves it in peace
    totals = total(two_shards(again))
    monkeypatch.setattr(dataset, "_move", _die)
    with pytest.raises(KeyboardInterrupt):
        publish(again, SPEC, totals)
    assert (again.directory / "manifest.json").size_bytes() is None


def test_an_attempt_that_was_overtaken_fails_and_leaves_the_other_in_peace(target: Target) -> None:
    """A job that slept while another began and ended finds its files gone, and touches nothing of the other's."""
    totals = total(two_shards(target))
    newer = Target(target.uri, "two")
    start_attempt(newer)
    manifest = publish(newer, SPEC, total([write(newer, 0, train=rows(9))]))
    with pytest.raises(OutputError, match="is gone: another job writes to"):
        publish(target, SPEC, totals)
    assert json.loads((target.directory / "manifest.json").read_bytes()) == manifest


def test_publishing_twice_is_publishing_once(target: Target) -> None:
    """A runner may repeat its last step after it has succeeded: the answer is the same, and nothing is lost."""
    totals = total(two_shards(target))
    manifest = publish(target, SPEC, totals)
    before = {name: (target.directory / name).read_bytes() for name in files(target)}
    assert publish(target, SPEC, totals) == manifest
    assert {name: (target.directory / name).read_bytes() for name in files(target)} == before


def test_a_repeated_failure_says_the_same(target: Target) -> None:
    """A runner tries four times: the last error still is the one that says why."""
    totals = total([write(target, 0, bad=rejected(0, 1), input_rows=2)])
    for _ in range(2):
        with pytest.raises(NoGoodRows, match="all 2 rows were rejected"):
            publish(target, SPEC, totals)


def test_nothing_but_rejects_is_an_error_that_shows_them(target: Target) -> None:
    """Zero good rows: no manifest, but the rejects are there to be looked at, and the error names them."""
    totals = total([write(target, 0, bad=rejected(0, 1), input_rows=2)])
    with pytest.raises(
        NoGoodRows, match=r"all 2 rows were rejected \(a is odd: 2\); see .*rejects-00000-of-00001\.jsonl"
    ):
        publish(target, SPEC, totals)
    assert target.directory.list_files(recursive=False) == ["rejects-00000-of-00001.jsonl"]


def test_good_rows_of_the_evaluation_split_alone_are_an_error(target: Target) -> None:
    """Without a training row there is nothing to train on, however good the rows are."""
    with pytest.raises(NoGoodRows, match="all 2 good rows fall into the evaluation split"):
        publish(target, SPEC, total([write(target, 0, evaluation=rows(1, 2))]))


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    """A file where the directory should be: told before anything is read."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        start_attempt(Target(str(tmp_path / "file"), "one"))


def test_a_long_shard_goes_on_in_a_second_file(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by the rows of a file, not of a shard; the files keep the order."""
    monkeypatch.setattr(shard_writer, "ROWS_PER_FILE", 2)
    writer = ShardWriter(target.temporary, 0)
    for weight in (1.0, 2.0, 3.0):
        writer.add(rows(weight, weight), rows(), rejected())
    manifest = publish(target, SPEC, total([writer.close(ShardSummary(0, "births.csv", 0, 1, input_rows=3))]))
    assert len(manifest["train"]["files"]) == 3
    read = [pq.read_table(Path(target.uri) / name)["weight_pounds"][0].as_py() for name in manifest["train"]["files"]]
    assert read == [1.0, 2.0, 3.0]


def test_the_temporary_directory_is_gone_at_the_end(target: Target) -> None:
    """Nothing but the dataset is left."""
    publish(target, SPEC, total(two_shards(target)))
    place = target.directory / dataset.TEMPORARY
    assert isinstance(place, Location)
    assert not Path(place.path).exists()
