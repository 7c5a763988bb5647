"""The benchmark of preprocessing runs, and its three ways write the same number of rows."""

import json
import subprocess
import sys

import pytest

from tests.integration.beam.conftest import ROOT


@pytest.mark.slow
def test_a_small_run_gives_a_table_and_ratios() -> None:
    """Two rows for each birth by every way (else it fails), then a table for a reader and JSON for a machine."""
    flags = ["--rows=2000", "--original-rows=500", "--repeats=1"]
    done = subprocess.run(
        [sys.executable, "-m", "bench.preprocess", *flags], cwd=ROOT, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stderr
    assert "| plain Arrow, no Beam, Parquet | 2,000 |" in done.stdout
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["ratios"]["run_phase_over_plain_arrow"] > 0
    assert {"original", "original_csv", "arrow", "ours", "ours_csv"} <= set(figures["ways"])
