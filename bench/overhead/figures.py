"""The figures, in the peers' form: one row a figure, and the table that sets systems side by side."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

BATON = "baton"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of one system, as the peers' scripts print it: a median, its unit, and of how many samples."""

    peer: str
    version: str
    figure: str
    value: float
    unit: str
    n: int = 1

    @classmethod
    def of(cls, line: dict[str, Any]) -> "Row":
        """Read a line of a peer's script."""
        return cls(line["peer"], line["version"], line["figure"], float(line["value"]), line["unit"], int(line["n"]))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table; `scale` turns the figure's unit into the shown one."""

    figure: str
    title: str
    scale: float = 1.0
    digits: int = 0


COLUMNS = (
    Column("latency_0ms", "run ms", 1e3),
    Column("start_0ms", "start ms", 1e3),
    Column("handoff_0ms", "hand-off ms", 1e3),
    Column("latency_100ms", "run of 0.3 s work ms", 1e3),
    Column("throughput", "runs/s", digits=2),
    Column("throughput_finished", "finished"),
    Column("idle_pss", "idle MiB (PSS)"),
    Column("idle_processes", "processes"),
)


@dataclass(frozen=True, slots=True)
class Goal:
    """Something that Baton should reach; `is_met` is None where this run cannot tell."""

    text: str
    is_met: bool | None


def stats(peer: str, version: str, figure: str, values: Sequence[float], unit: str) -> list[Row]:
    """Return the median as a row, and the extremes in two more, as the peers' scripts do."""
    kinds = {"": statistics.median(values), "_min": min(values), "_max": max(values)}
    return [Row(peer, version, figure + end, round(value, 4), unit, len(values)) for end, value in kinds.items()]


def by_system(rows: Iterable[Row]) -> dict[str, dict[str, float]]:
    """Return each system's figures by name, the systems in the order in which they came."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        found.setdefault(row.peer, {})[row.figure] = row.value
    return found


def times_faster(systems: dict[str, dict[str, float]], peer: str) -> float | None:
    """Return how many times longer a run of `peer` takes than one of Baton's; None where either is not known."""
    ours, theirs = (systems.get(name, {}).get("latency_0ms") for name in (BATON, peer))
    return theirs / ours if ours and theirs else None


def goals(systems: dict[str, dict[str, float]]) -> list[Goal]:
    """Compare Baton's figures with what was promised of them."""
    ours = systems.get(BATON, {})

    def bound(text: str, figure: str, limit: float, *, is_least: bool = False) -> Goal:
        value = ours.get(figure)
        return Goal(text, None if value is None else value >= limit if is_least else value < limit)

    def factor(peer: str, least: float) -> Goal:
        found = times_faster(systems, peer)
        return Goal(f"a run at least {least:g} times faster than {peer}'s", None if found is None else found >= least)

    return [
        bound("a run under 150 ms", "latency_0ms", 0.150),
        bound("hand-off under 25 ms", "handoff_0ms", 0.025),
        bound("at least 15 runs/s of 200 at once", "throughput", 15, is_least=True),
        bound("the standing system under 400 MiB", "idle_pss", 400),
        *(factor(peer, 7) for peer in ("zenml", "metaflow")),
        *(factor(peer, 20) for peer in ("kfp-local", "airflow-sqlite")),
    ]


def table(rows: Sequence[Row]) -> str:
    """Return the table as Markdown, Baton first, and below it the goals."""
    systems = by_system(rows)
    titles = ["system", *(column.title for column in COLUMNS), "run × Baton's"]
    lines = [titles, ["---"] * len(titles)]
    for name in sorted(systems, key=lambda name: (name != BATON, systems[name].get("latency_0ms", float("inf")))):
        shown = [_shown(systems[name].get(column.figure), column.scale, column.digits) for column in COLUMNS]
        lines.append([name, *shown, _shown(times_faster(systems, name), digits=1)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(titles))]
    text = "\n".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |" for line in lines
    )
    words = {True: "reached", False: "MISSED", None: "not measured"}
    return text + "\n\n" + "\n".join(f"{words[goal.is_met]:<12}  {goal.text}" for goal in goals(systems))


def _shown(value: float | None, scale: float = 1.0, digits: int = 0) -> str:
    return "" if value is None else f"{value * scale:,.{digits}f}"
