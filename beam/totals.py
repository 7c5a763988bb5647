"""All shards of a job added up, to the last digit the same whatever the order they end in."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from beam.column_statistics import TableStatistics, add_counts
from beam.shard_writer import ShardSummary


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
