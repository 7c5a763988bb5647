"""The Beam pipeline: literal rows in, a dataset out, the same for any order and any way of running."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to

from beam import babyweight, births, rejects, sources
from beam.dataset import Target, start_attempt
from beam.errors import NoGoodRows, SourceError, from_runner
from beam.manifest import DatasetSpec
from beam.preprocessing import PreprocessShards, ProcessShard, TemporaryWriters
from beam.shards import Batch, Shard
from beam.totals import Totals

SPEC = DatasetSpec("babyweight", "literal", births.LABEL, [])
OPTIONS = ["--runner=FnApiRunner"]


@dataclass(frozen=True)
class LiteralShard(Shard):
    """Births written in the test, (month, weight); a weight of None is a missing one. The last line is broken."""

    births: tuple[tuple[int, float | None], ...]
    broken_lines: int = 0

    @property
    def place(self) -> str:
        return "literal.csv"

    @property
    def rows_before(self) -> int | None:
        return None

    @property
    def header_lines(self) -> int:
        return 1

    def batches(self) -> Iterator[Batch]:
        count = len(self.births)
        columns = {
            "year": [2022] * count,
            "month": [month for month, _ in self.births],
            "weight_pounds": pa.array([weight for _, weight in self.births], pa.float64()),
            "is_male": [True] * count,
            "mother_age": [30] * count,
            "plurality": [1] * count,
            "gestation_weeks": [40] * count,
        }
        broken = rejects.table(
            np.arange(count, count + self.broken_lines),
            field="",
            values=["?"] * self.broken_lines,
            reason="row is empty",
            rule="7 values with commas",
        )
        yield Batch(pa.RecordBatch.from_pydict(columns), np.arange(count), broken)


SHARDS = (
    LiteralShard(((6, 7.5), (5, 6.0), (6, None)), broken_lines=1),
    LiteralShard(((5, 8.0),)),
    LiteralShard(((7, 6.5), (13, 7.0))),
)


def run(directory: Path, shards: Sequence[tuple[int, Shard]], options: list[str]) -> dict[str, Any]:
    target = Target(str(directory), "one")
    start_attempt(target)
    babyweight.build([shard for _, shard in shards], target, SPEC, PipelineOptions(options)).run().wait_until_finish()
    return dict(json.loads((directory / "manifest.json").read_text()))


def test_literal_births_become_a_dataset(tmp_path: Path) -> None:
    """Births of three shards: two rows each, split by month, and the bad ones counted by reason with their place."""
    manifest = run(tmp_path, list(enumerate(SHARDS)), OPTIONS)
    read = {
        kind: [row for name in manifest[kind]["files"] for row in pq.read_table(tmp_path / name).to_pylist()]
        for kind in ("train", "eval")
    }
    assert [(row["weight_pounds"], row["is_male"]) for row in read["train"]] == [
        (7.5, "True"),
        (7.5, "Unknown"),
        (6.5, "True"),
        (6.5, "Unknown"),
    ]
    assert [row["weight_pounds"] for row in read["eval"]] == [6.0, 6.0, 8.0, 8.0]
    assert manifest["input_rows"] == 7
    assert manifest["rejects"]["by_reason"] == {
        "month is out of range": 1,
        "row is empty": 1,
        "weight_pounds is missing": 1,
    }
    lines = [
        json.loads(line) for name in manifest["rejects"]["files"] for line in (tmp_path / name).read_text().splitlines()
    ]
    assert [(line["source"], line["row"], line["field"]) for line in lines] == [
        ("literal.csv", 3, "weight_pounds"),
        ("literal.csv", 4, ""),
        ("literal.csv", 7, "month"),
    ]


@pytest.mark.parametrize("cores", [1, 3])
def test_however_many_threads_the_dataset_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    """Shards one after the other, several at once, or several workers: the manifest is the same to the last digit."""
    shards = list(enumerate(SHARDS))
    workers = ["--direct_running_mode=multi_threading", "--direct_num_workers=2"]
    expected = run(tmp_path / "workers", shards, [*OPTIONS, *workers])
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    assert run(tmp_path / "threads", shards, OPTIONS) == expected


def test_the_order_of_the_elements_does_not_matter(tmp_path: Path) -> None:
    """The composite transform adds shards up in the order of the source, however they come."""
    target = Target(str(tmp_path), "one")
    start_attempt(target)
    mixed = [(2, SHARDS[2]), (0, SHARDS[0]), (1, SHARDS[1])]
    with beam.Pipeline(options=PipelineOptions(OPTIONS)) as pipeline:
        totals = pipeline | "Create" >> beam.Create(mixed) | PreprocessShards(births.prepare, TemporaryWriters(target))
        assert_that(totals | "Look" >> beam.Map(_look), equal_to([((0, 1, 2), 7, 4, 4, 3)]))


def _look(totals: Totals) -> tuple[Any, ...]:
    indexes = tuple(summary.index for summary in totals.summaries)
    return indexes, totals.input_rows, totals.train_rows, totals.eval_rows, totals.reject_rows


def test_rows_are_counted_as_beam_counters(tmp_path: Path) -> None:
    """Dataflow's console shows rows read, written and rejected, by reason, while the job runs."""
    target = Target(str(tmp_path), "one")
    start_attempt(target)
    result = babyweight.build(SHARDS, target, SPEC, PipelineOptions(OPTIONS)).run()
    counters = {metric.key.metric.name: metric.committed for metric in result.metrics().query()["counters"]}
    assert counters == {
        "input_rows": 7,
        "train_rows": 4,
        "eval_rows": 4,
        "rejected_rows": 3,
        "rejected_weight_pounds_is_missing": 1,
        "rejected_row_is_empty": 1,
        "rejected_month_is_out_of_range": 1,
    }


class MissingShard(LiteralShard):
    """A shard whose file is gone."""

    def batches(self) -> Iterator[Batch]:
        raise FileNotFoundError("births.csv")
        yield


def test_once_a_shard_has_failed_nothing_goes_on_behind(tmp_path: Path) -> None:
    """The error is raised when the other threads have ended: none writes into a directory that is being cleared."""
    writers = TemporaryWriters(Target(str(tmp_path), "one"))
    step = ProcessShard(births.prepare, writers, threads=2)
    step.setup()
    for index, shard in enumerate([MissingShard(((6, 7.5),)), *SHARDS * 10]):
        assert list(step.process((index, shard))) == []
    futures = list(step._pending)
    with pytest.raises(SourceError, match=r"'literal\.csv' cannot be read"):
        list(step.finish_bundle())
    assert all(future.done() for future in futures)
    step.teardown()


def test_a_file_with_damaged_rows_is_named(tmp_path: Path) -> None:
    """A Parquet file whose footer is whole and whose data are not: the error says which file to upload again."""
    births_file = tmp_path / "births.parquet"
    columns = {"year": 2022, "month": 6, "weight_pounds": 7.5, "is_male": True}
    columns |= {"mother_age": 30, "plurality": 1, "gestation_weeks": 40}
    pq.write_table(pa.table({name: [value] * 1000 for name, value in columns.items()}), births_file)
    content = bytearray(births_file.read_bytes())
    content[4:200] = bytes(196)
    births_file.write_bytes(content)
    with pytest.raises(Exception, match="cannot be read") as caught:
        run(tmp_path / "out", list(enumerate(sources.plan(str(births_file), births.COLUMNS))), OPTIONS)
    found = from_runner(caught.value)
    assert isinstance(found, SourceError)
    assert f"source '{births_file}' cannot be read" in str(found)


@pytest.mark.parametrize("mode", [[], ["--direct_running_mode=multi_threading", "--direct_num_workers=2"]])
def test_no_good_row_stops_the_job_with_our_message(tmp_path: Path, mode: list[str]) -> None:
    """The error that the last step raises is found again in whatever the runner makes of it."""
    with pytest.raises(Exception, match="rejected") as caught:
        run(tmp_path, [(0, LiteralShard(((13, 7.0),)))], OPTIONS + mode)
    found = from_runner(caught.value)
    assert isinstance(found, NoGoodRows)
    assert "all 1 rows were rejected (month is out of range: 1)" in str(found)
    assert not (tmp_path / "manifest.json").exists()
