"""Statistics of the training split, computed shard by shard and merged.

Means and deviations are merged by the formula for pairs (Chan, Golub, LeVeque, "Updating formulae and a pairwise
algorithm for computing sample variances", 1979), which does not subtract large, nearly equal sums. Floating-point
sums depend on their order, so whoever merges does so in the order of the shards: the same source gives the same last
digit.

(Not named `statistics`: a script started inside this folder would then shadow the standard library's module.)
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class NumberStatistics:
    """Count, mean, sum of squared deviations from the mean, and the extremes of a numeric column; nothing yet by default."""

    count: int = 0
    mean: float = 0.0
    squared_deviations: float = 0.0
    minimum: float = math.inf
    maximum: float = -math.inf

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> "NumberStatistics":
        """Measure a column without nulls, in float64."""
        count = len(column)
        if not count:
            return cls()
        extremes = pc.min_max(column)
        return cls(
            count=count,
            mean=float(pc.mean(column).as_py()),
            squared_deviations=float(pc.variance(column, ddof=0).as_py()) * count,
            minimum=float(extremes["min"].as_py()),
            maximum=float(extremes["max"].as_py()),
        )

    def merge(self, other: "NumberStatistics") -> "NumberStatistics":
        """Return the statistics of both together."""
        if not self.count or not other.count:
            return self if self.count else other
        count = self.count + other.count
        difference = other.mean - self.mean
        return NumberStatistics(
            count=count,
            mean=self.mean + difference * other.count / count,
            squared_deviations=self.squared_deviations
            + other.squared_deviations
            + difference * difference * self.count * other.count / count,
            minimum=min(self.minimum, other.minimum),
            maximum=max(self.maximum, other.maximum),
        )

    def as_dict(self) -> dict[str, float | int | None]:
        """Return what the manifest says; the deviation is the population's (divided by the count)."""
        if not self.count:
            return {"count": 0, "mean": None, "standard_deviation": None, "min": None, "max": None}
        deviation = math.sqrt(self.squared_deviations / self.count)
        return {
            "count": self.count,
            "mean": self.mean,
            "standard_deviation": deviation,
            "min": self.minimum,
            "max": self.maximum,
        }


@dataclass(frozen=True)
class TableStatistics:
    """Statistics of each column of a table: numbers are measured, texts are counted."""

    numbers: Mapping[str, NumberStatistics] = field(default_factory=dict)
    texts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, table: pa.Table) -> "TableStatistics":
        """Measure a table without nulls."""
        numbers, texts = {}, {}
        for name, column in zip(table.column_names, table.columns, strict=True):
            if pa.types.is_dictionary(column.type) or pa.types.is_string(column.type):
                counted = pc.value_counts(column).to_pylist()
                texts[name] = {pair["values"]: pair["counts"] for pair in counted}
            else:
                numbers[name] = NumberStatistics.of(column)
        return cls(numbers, texts)

    def merge(self, other: "TableStatistics") -> "TableStatistics":
        """Return the statistics of both tables together."""
        names = [*self.numbers, *(name for name in other.numbers if name not in self.numbers)]
        nothing = NumberStatistics()
        numbers = {name: self.numbers.get(name, nothing).merge(other.numbers.get(name, nothing)) for name in names}
        names = [*self.texts, *(name for name in other.texts if name not in self.texts)]
        texts = {name: add_counts([self.texts.get(name, {}), other.texts.get(name, {})]) for name in names}
        return TableStatistics(numbers, texts)

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Return what the manifest says, by column."""
        counted = {name: {"values": dict(sorted(values.items()))} for name, values in self.texts.items()}
        return {name: number.as_dict() for name, number in self.numbers.items()} | counted


def add_counts(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Add up counts by key."""
    total: dict[str, int] = {}
    for part in counts:
        for key, count in part.items():
            total[key] = total.get(key, 0) + count
    return total
