"""The pipeline itself, for any model: shards in, one published dataset out.

    Create shards ─► Reshuffle ─► Process shard ─► Combine summaries ─► Publish dataset

`Process shard` reads, prepares and writes one shard as whole columns. Between the steps travel only shards and
summaries, a few hundred bytes each. `PreprocessShards` itself opens nothing: reading is the shards' business,
preparing is a function of columns, and writing is passed in.
"""

# Beam is typed in part only.
# mypy: disable-error-code="no-untyped-call"
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Protocol

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from beam.dataset import Target, publish
from beam.errors import SourceError
from beam.manifest import DatasetSpec
from beam.shard_writer import ShardSummary, ShardWriter
from beam.shards import Batch, Shard
from beam.totals import Totals, total

NAMESPACE = "preprocess"


class Prepared(Protocol):
    """What became of one batch."""

    @property
    def train(self) -> pa.Table:
        """Rows to train on."""

    @property
    def evaluation(self) -> pa.Table:
        """Rows to evaluate on."""

    @property
    def rejected(self) -> pa.Table:
        """The dead letters, as `rejects.SCHEMA`."""


Prepare = Callable[[pa.RecordBatch, npt.NDArray[np.int64]], Prepared]
OpenWriter = Callable[[int], ShardWriter]


class ProcessShard(beam.DoFn):
    """Read one shard, prepare its columns and write what came of them.

    Rejected rows leave by the shard's dead-letter file and are counted by reason, as Beam counters too.

    Args:
        threads: how many shards of a bundle to work on at once. 1 where the runner itself keeps every core busy, as
            Dataflow does. The local runner gives one worker all shards; its own ways to have more of them listen on
            every network interface of the machine, so we use threads: columns are worked on outside of Python's lock.
    """

    def __init__(self, prepare: Prepare, open_writer: OpenWriter, threads: int = 1) -> None:
        self._prepare = prepare
        self._open_writer = open_writer
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._pending: list[Future[ShardSummary]] = []

    def setup(self) -> None:
        """Make the threads, once per worker."""
        if self._threads > 1:
            self._pool = ThreadPoolExecutor(max_workers=self._threads, thread_name_prefix="shard")

    def process(self, element: tuple[int, Shard]) -> Iterator[ShardSummary]:
        """Yield the summary of one (index, shard), here or at the end of the bundle."""
        if self._pool is not None:
            self._pending.append(self._pool.submit(self._summarise, element))
            return
        summary = self._summarise(element)
        _count(summary)
        yield summary

    def finish_bundle(self) -> Iterator[WindowedValue]:
        """Yield the summaries of the shards that threads worked on."""
        pending, self._pending = self._pending, []
        try:
            for future in pending:
                summary = future.result()
                _count(summary)
                yield GlobalWindows.windowed_value(summary)
        finally:  # once a shard has failed, the others are of no use, and must not write behind our back
            for future in pending:
                future.cancel()
            wait(pending)

    def teardown(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def _summarise(self, element: tuple[int, Shard]) -> ShardSummary:
        index, shard = element
        writer = self._open_writer(index)
        input_rows = 0
        for batch in _read(shard):
            prepared = self._prepare(batch.records, batch.rows)
            writer.add(prepared.train, prepared.evaluation, _in_order(prepared.rejected, batch.broken))
            input_rows += batch.input_rows
        return writer.close(
            ShardSummary(index, shard.place, shard.rows_before, shard.header_lines, input_rows=input_rows)
        )


class CombineSummaries(beam.CombineFn):
    """Gather the summaries of all shards; they are added up once all are there, in the order of the source."""

    def create_accumulator(self) -> list[ShardSummary]:
        """Start with no shard."""
        return []

    def add_input(self, accumulator: list[ShardSummary], element: ShardSummary) -> list[ShardSummary]:
        """Take one shard's summary."""
        accumulator.append(element)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[list[ShardSummary]]) -> list[ShardSummary]:
        """Join what several workers gathered."""
        return [summary for accumulator in accumulators for summary in accumulator]

    def extract_output(self, accumulator: list[ShardSummary]) -> Totals:
        """Add up."""
        return total(accumulator)


class PublishDataset(beam.DoFn):
    """Give the files their final names and write the manifest, which is the element that comes out."""

    def __init__(self, target: Target, spec: DatasetSpec) -> None:
        self._target = target
        self._spec = spec

    def process(self, element: Totals) -> Iterator[dict[str, Any]]:
        """Yield the manifest."""
        yield publish(self._target, self._spec, element)


class PreprocessShards(beam.PTransform["PCollection[tuple[int, Shard]]", "PCollection[Totals]"]):
    """(index, shard) elements to one `Totals` of what was written."""

    def __init__(self, prepare: Prepare, open_writer: OpenWriter, threads: int = 1) -> None:
        super().__init__()
        self._prepare = prepare
        self._open_writer = open_writer
        self._threads = threads

    def expand(self, input_or_inputs: PCollection[tuple[int, Shard]]) -> PCollection[Totals]:
        """Spread the shards over the workers, process each, and gather the summaries."""
        totals: PCollection[Totals] = (
            input_or_inputs
            | "Spread shards" >> beam.Reshuffle()
            | "Process shard" >> beam.ParDo(ProcessShard(self._prepare, self._open_writer, self._threads))
            | "Combine summaries" >> beam.CombineGlobally(CombineSummaries())
        )
        return totals


class TemporaryWriters:
    """Opens the writers of an attempt; a class, not a closure, so that workers can unpack it."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def __call__(self, index: int) -> ShardWriter:
        """Return the writer for one shard."""
        return ShardWriter(self._target.temporary, index)


def _read(shard: Shard) -> Iterator[Batch]:
    """Read a shard; a file that is broken or gone is told by its name."""
    try:
        yield from shard.batches()
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0][:300]
        raise SourceError(f"source {shard.place!r} cannot be read ({reason}); upload it again") from error


def _in_order(rejected: pa.Table, broken: pa.Table) -> pa.Table:
    if not len(rejected) or not len(broken):
        return rejected if len(rejected) else broken
    return pa.concat_tables([rejected, broken]).sort_by("row")


def _count(summary: ShardSummary) -> None:
    counts = {
        "input_rows": summary.input_rows,
        "train_rows": summary.rows("train"),
        "eval_rows": summary.rows("eval"),
        "rejected_rows": summary.rows("rejects"),
    }
    by_reason = summary.rejects_by_reason.items()
    counts |= {f"rejected_{reason.replace(' ', '_')}": count for reason, count in by_reason}
    for name, count in counts.items():
        Metrics.counter(NAMESPACE, name).inc(count)
