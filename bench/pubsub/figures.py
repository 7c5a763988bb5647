"""The figures, the goals set for them, and the table that compares two brokers."""

import statistics
from dataclasses import dataclass
from typing import Literal

Better = Literal["lower", "higher"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that is measured.

    Args:
        scale: multiplies the value for the table (seconds to milliseconds, bytes to MiB).
        goal: how many times better than Google's emulator ours shall be; None where no goal is set.
    """

    key: str
    title: str
    unit: str
    better: Better
    goal: float | None
    scale: float = 1.0
    digits: int = 0


FIGURES = (
    Figure("startup_s", "start to first RPC", "s", "lower", 2, digits=2),
    Figure("idle_bytes", "memory idle", "MiB", "lower", 2, 2**-20),
    Figure("backlog_bytes", "memory with 100,000 messages waiting", "MiB", "lower", 2, 2**-20),
    Figure("publish_1_per_s", "publish, 1 a request", "messages/s", "higher", 1),
    Figure("publish_100_per_s", "publish, 100 a request", "messages/s", "higher", 1 / 3),
    Figure("pull_1_per_s", "streaming pull and ack, one stream", "messages/s", "higher", 8),
    Figure("pull_8_per_s", "streaming pull and ack, eight streams", "messages/s", "higher", None),
    Figure("latency_10_p50_s", "latency at 10/s, p50", "ms", "lower", 8, 1e3, 1),
    Figure("latency_10_p99_s", "latency at 10/s, p99", "ms", "lower", 8, 1e3, 1),
    Figure("latency_100_p50_s", "latency at 100/s, p50", "ms", "lower", 8, 1e3, 1),
    Figure("latency_100_p99_s", "latency at 100/s, p99", "ms", "lower", 8, 1e3, 1),
)

Samples = dict[str, list[float]]
"""Values by figure key, one for each repetition."""


def quantile(values: list[float], share: float) -> float:
    """The smallest value with at least this share of all at or below it."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def ratio(figure: Figure, ours: Samples, google: Samples) -> float | None:
    """How many times better ours is: the median of the ratios within each repetition."""
    pairs = list(zip(ours.get(figure.key, []), google.get(figure.key, []), strict=False))
    if not pairs:
        return None
    return statistics.median(b / a if figure.better == "lower" else a / b for a, b in pairs)


def table(brokers: dict[str, Samples]) -> str:
    """Medians side by side, with the ratio and whether it meets the goal."""
    lines = [f"{'':<39}{'ours':>12}{'google':>12}  {'unit':<11}{'times better':>13}{'goal':>7}"]
    ours, google = brokers.get("ours", {}), brokers.get("google", {})
    for figure in FIGURES:
        times = ratio(figure, ours, google)
        shown = f"{times:13.2f}" if times is not None else f"{'-':>13}"
        goal = f"{figure.goal:7.2g}" if figure.goal else f"{'-':>7}"
        verdict = "" if times is None or figure.goal is None else "  met" if times >= figure.goal else "  MISSED"
        values = "".join(_cell(figure, samples) for samples in (ours, google))
        lines.append(f"{figure.title:<39}{values}  {figure.unit:<11}{shown}{goal}{verdict}")
    return "\n".join(lines)


def _cell(figure: Figure, samples: Samples) -> str:
    values = samples.get(figure.key)
    return f"{statistics.median(values) * figure.scale:12,.{figure.digits}f}" if values else f"{'-':>12}"
