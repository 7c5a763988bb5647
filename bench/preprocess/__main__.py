"""Preprocessing, measured in one run: the tutorial's way, plain Arrow, and ours. `python -m bench.preprocess [--rows N]`.

Each way runs in fresh processes, in turns, and the median counts. The tutorial's way would take minutes at the full number
of rows, so it is measured on fewer and extrapolated from its rate; the table says so.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.preprocess import synthetic

ROOT = Path(__file__).parents[2]
GOAL_OVER_ORIGINAL = 100  # end to end, at 4,000,000 rows
GOAL_OVER_ARROW = 2  # run phase, at 4,000,000 rows


@dataclass
class Way:
    """One way of preprocessing and what was measured of it."""

    name: str
    way: str
    source: str
    rows: int
    wall_s: list[float] = field(default_factory=list)
    run_s: list[float] = field(default_factory=list)
    peak_mib: float = 0.0

    def measure(self, directory: Path) -> None:
        """Run once, in a process of its own."""
        with tempfile.TemporaryDirectory(dir=directory) as output:
            command = [sys.executable, "-m", "bench.preprocess.one_way", self.way, str(directory / self.source), output]
            began_at = time.perf_counter()
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            self.wall_s.append(time.perf_counter() - began_at)
        if done.returncode:
            sys.exit(f"{self.name} failed:\n{done.stderr[-2000:]}")
        answer = json.loads(done.stdout.splitlines()[-1])
        if answer["rows_written"] != 2 * self.rows:
            sys.exit(f"{self.name} wrote {answer['rows_written']} rows of {self.rows} births; two for each were due")
        self.run_s.append(answer["run_s"])
        self.peak_mib = max(self.peak_mib, answer["peak_mib"])

    def as_dict(self) -> dict[str, Any]:
        """Return medians and all values."""
        return {
            "rows": self.rows,
            "wall_s": statistics.median(self.wall_s),
            "run_s": statistics.median(self.run_s),
            "peak_mib": round(self.peak_mib),
            "all_wall_s": self.wall_s,
            "all_run_s": self.run_s,
        }


def measure(rows: int, original_rows: int, repeats: int, seed: int) -> dict[str, Any]:
    """Measure all ways; return the figures."""
    ways = [
        Way("original", "original", "few.parquet", original_rows),
        Way("original_tenth", "original", "fewer.parquet", original_rows // 10),
        Way("arrow", "plain_arrow", "births.parquet", rows),
        Way("ours", "ours", "births.parquet", rows),
        Way("ours_csv", "ours", "births.csv", rows),
    ]
    with tempfile.TemporaryDirectory() as scratch:
        synthetic.write(Path(scratch), rows, original_rows, seed)
        for _ in range(repeats):  # in turns, so that a busy minute hits them all
            for way in ways:
                way.measure(Path(scratch))
    figures = {way.name: way.as_dict() for way in ways}
    return {
        "benchmark": "preprocess",
        "rows": rows,
        "repeats": repeats,
        "seed": seed,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("apache-beam", "pyarrow", "numpy")},
        "load_at_end": os.getloadavg()[0],
        "ways": figures,
        **ratios(figures, rows),
    }


def ratios(figures: dict[str, Any], rows: int) -> dict[str, Any]:
    """Extrapolate the tutorial's way to all rows, on the line through its two sizes, and compare.

    Two sizes, because the fixed time of a pipeline (imports, graph) is not to be multiplied.
    """
    original, tenth = figures["original"], figures["original_tenth"]
    rate = (original["rows"] - tenth["rows"]) / (original["wall_s"] - tenth["wall_s"])
    extrapolated_s = original["wall_s"] + (rows - original["rows"]) / rate
    over_original = extrapolated_s / figures["ours"]["wall_s"]
    over_arrow = figures["ours"]["run_s"] / figures["arrow"]["run_s"]
    return {
        "original_rows_per_s": rate,
        "original_extrapolated_wall_s": extrapolated_s,
        "times_the_original_end_to_end": over_original,
        "times_the_original_end_to_end_from_csv": extrapolated_s / figures["ours_csv"]["wall_s"],
        "run_phase_over_plain_arrow": over_arrow,
        "goals": {
            f"at least {GOAL_OVER_ORIGINAL} times the original": over_original >= GOAL_OVER_ORIGINAL,
            f"run phase within {GOAL_OVER_ARROW} times plain Arrow": over_arrow <= GOAL_OVER_ARROW,
        },
    }


def table(figures: dict[str, Any]) -> str:
    """Return the figures for a reader."""
    titles = {
        "original": "original (dict per row, Beam)",
        "arrow": "plain Arrow, no Beam",
        "ours": "ours, Parquet in",
        "ours_csv": "ours, CSV in",
    }
    lines = ["| way | rows | wall s | run phase s | peak MiB |", "|---|---|---|---|---|"]
    for name, title in titles.items():
        way = figures["ways"][name]
        cells = [f"{way['rows']:,}", f"{way['wall_s']:.2f}", f"{way['run_s']:.2f}", str(way["peak_mib"])]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    cells = [f"{figures['rows']:,}", f"{figures['original_extrapolated_wall_s']:.0f} (extrapolated)", "-", "-"]
    lines.insert(3, f"| original, by its {figures['original_rows_per_s']:,.0f} rows/s | {' | '.join(cells)} |")
    lines += [
        "",
        f"end to end: {figures['times_the_original_end_to_end']:.0f} times the original "
        f"({figures['times_the_original_end_to_end_from_csv']:.0f} from CSV)",
        f"run phase: {figures['run_phase_over_plain_arrow']:.2f} times plain Arrow's",
        f"medians of {figures['repeats']}; {figures['cores']} cores; load {figures['load_at_end']:.1f} at the end",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, and the figures as one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.preprocess", description=__doc__)
    parser.add_argument("--rows", type=int, default=4_000_000, help="births for plain Arrow and ours")
    parser.add_argument("--original-rows", type=int, default=100_000, help="births for the original way")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=2022)
    options = parser.parse_args()
    original_rows = min(options.rows, options.original_rows)
    figures = measure(options.rows, original_rows, options.repeats, options.seed)
    print(table(figures))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
