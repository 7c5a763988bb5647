"""Preprocessing, measured in one run: the tutorial's way, plain Arrow, and ours. `python -m bench.preprocess [--rows N]`.

Each way runs in fresh processes, in turns, and the median counts. The tutorial's way would take minutes at the full
number of rows, so it is measured on fewer and extrapolated from its rate; the table says so.
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

from bench.preprocess import report, synthetic

ROOT = Path(__file__).parents[2]


@dataclass
class Way:
    """One way of preprocessing and what was measured of it."""

    name: str
    way: str
    source: str
    rows: int
    wall_s: list[float] = field(default_factory=list)
    run_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    peak_mib: float = 0.0

    def measure(self, directory: Path) -> None:
        """Run once, in a process of its own."""
        with tempfile.TemporaryDirectory(dir=directory) as output:
            source = str(directory / self.source)
            command = [sys.executable, "-m", "bench.preprocess.one_way", self.way, source, output]
            began_at = time.perf_counter()
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            self.wall_s.append(time.perf_counter() - began_at)
        if done.returncode:
            sys.exit(f"{self.name} failed:\n{done.stderr[-2000:]}")
        answer = json.loads(done.stdout.splitlines()[-1])
        if answer["rows_written"] != 2 * self.rows:
            sys.exit(f"{self.name} wrote {answer['rows_written']} rows of {self.rows} births; two for each were due")
        self.run_s.append(answer["run_s"])
        self.cpu_s.append(answer["cpu_s"])
        self.peak_mib = max(self.peak_mib, answer["peak_mib"])

    def summary(self) -> dict[str, Any]:
        """Return the medians, and all values."""
        measured = {"wall_s": self.wall_s, "run_s": self.run_s, "cpu_s": self.cpu_s}
        medians = {name: statistics.median(values) for name, values in measured.items()}
        everything = {f"all_{name}": values for name, values in measured.items()}
        return {"rows": self.rows, "peak_mib": round(self.peak_mib)} | medians | everything


def measure(rows: int, original_rows: int, repeats: int, seed: int) -> dict[str, Any]:
    """Measure all ways; return the figures."""
    tenth = original_rows // 10
    ways = [
        Way("original", "original", "few.parquet", original_rows),
        Way("original_tenth", "original", "fewer.parquet", tenth),
        Way("original_csv", "original_csv", "few.csv", original_rows),
        Way("original_csv_tenth", "original_csv", "fewer.csv", tenth),
        Way("arrow", "arrow", "births.parquet", rows),
        Way("ours", "ours", "births.parquet", rows),
        Way("ours_csv", "ours", "births.csv", rows),
    ]
    with tempfile.TemporaryDirectory() as scratch:
        synthetic.write(Path(scratch), rows, original_rows, seed)
        for _ in range(repeats):  # in turns, so that a busy minute hits them all
            for way in ways:
                way.measure(Path(scratch))
    measured = {way.name: way.summary() for way in ways}
    return {
        "benchmark": "preprocess",
        "rows": rows,
        "repeats": repeats,
        "seed": seed,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("apache-beam", "pyarrow", "numpy")},
        "load_at_end": os.getloadavg()[0],
        "ways": measured,
        "ratios": report.ratios(measured, rows),
    }


def main() -> None:
    """Measure, print the table, and the figures as one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.preprocess", description=__doc__)
    parser.add_argument("--rows", type=int, default=4_000_000, help="births for plain Arrow and ours")
    parser.add_argument("--original-rows", type=int, default=100_000, help="births for the original's ways")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=2022)
    options = parser.parse_args()
    original_rows = min(options.rows, options.original_rows)
    figures = measure(options.rows, original_rows, options.repeats, options.seed)
    print(report.table(figures))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
