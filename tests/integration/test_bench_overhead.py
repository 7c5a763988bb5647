"""`python -m bench.overhead` measures Baton on real processes, and peers by their scripts."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.overhead import peers
from bench.overhead.figures import Row, by_system, goals, table

ROOT = Path(__file__).parents[2]
SCRIPT = """import json, sys
figure = {"peer": "slow", "version": "1", "figure": "latency_0ms", "value": 1.5, "unit": "s", "n": 5}
print("a line that is no figure")
print(json.dumps(figure))
sys.exit(FAILS)
"""


def row(peer: str, figure: str, value: float) -> Row:
    return Row(peer, "1", figure, value, "s")


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-m", "bench.overhead", *arguments]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=110)


def test_baton_alone(tmp_path: Path) -> None:
    """A tiny measurement ends with every run finished, one mark after the other, and a table."""
    kept = tmp_path / "figures.jsonl"
    sizes = ["--own-n", "2", "--runs", "3", "--limit", "30", "--sleeps", "0", "--figures", "cold,latency,throughput"]
    done = run(*sizes, "--json", str(kept))
    assert done.returncode == 0, done.stdout + done.stderr
    context, *lines = [json.loads(line) for line in kept.read_text().splitlines()]
    found = {line["figure"]: line for line in lines}
    assert context["failures"] == []
    assert {line["peer"] for line in lines} == {"baton"}
    assert found["throughput_finished"]["value"] == 3
    assert 0 < found["start_0ms"]["value"] < found["latency_0ms"]["value"]
    assert 0 < found["handoff_0ms"]["value"] < found["latency_0ms"]["value"]
    assert found["latency_0ms"]["n"] == 2
    assert "| baton " in done.stdout
    assert "not measured  a run at least 7 times faster than zenml's" in done.stdout


def test_what_cannot_be_measured_is_refused_at_once(tmp_path: Path) -> None:
    """A peer that nobody knows, and scripts that are not there, are named before minutes are spent."""
    unknown = run("--peers", "zenml,nobody")
    assert unknown.returncode != 0
    assert "nobody" in unknown.stderr
    missing = run("--peers", "zenml", "--peers-dir", str(tmp_path / "nowhere"))
    assert missing.returncode != 0
    assert "--peers-dir" in missing.stderr


def options(tmp_path: Path, fails: int) -> peers.Options:
    """Return options with a peer's script, and an environment that is this one."""
    (tmp_path / "bench_slow.py").write_text(SCRIPT.replace("FAILS", str(fails)))
    home = tmp_path / "venvs" / "slow"
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "python").symlink_to(sys.executable)
    (home / peers._STAMP).write_text("slow-package")
    given: dict[str, Any] = {"scripts": tmp_path, "venvs": tmp_path / "venvs", "logs": tmp_path}
    return peers.Options(**given, figures="latency", n=5, runs=2, limit_s=1, sleeps_ms="0", peer_limit_s=30)


SLOW = peers.Peer("slow", "bench_slow.py", ("slow-package",), "slow")


def test_a_peers_figures_are_read(tmp_path: Path) -> None:
    """Each line that is a figure is a row; what else a tool prints is not."""
    assert list(peers.measure(SLOW, options(tmp_path, 0))) == [Row("slow", "1", "latency_0ms", 1.5, "s", 5)]


def test_a_peer_that_fails_is_said(tmp_path: Path) -> None:
    """Its figures up to then stay, and the error names its log."""
    found = peers.measure(SLOW, options(tmp_path, 3))
    assert next(found).figure == "latency_0ms"
    with pytest.raises(peers.PeerFailed, match=r"ended with 3; read .*slow\.log"):
        next(found)


def test_the_table_compares_and_the_goals_are_judged() -> None:
    """Baton comes first, a ratio says how many times longer a peer's run takes, and a goal without its peer is open."""
    rows = [row("zenml", "latency_0ms", 1.0), row("baton", "latency_0ms", 0.1), row("baton", "throughput", 14.0)]
    lines = table(rows).splitlines()
    assert lines[2].startswith("| baton ")
    assert lines[3].endswith("| 10.0          |")
    judged = {goal.text: goal.is_met for goal in goals(by_system(rows))}
    assert judged["a run under 150 ms"] is True
    assert judged["a run at least 7 times faster than zenml's"] is True
    assert judged["at least 15 runs/s of 200 at once"] is False
    assert judged["a run at least 20 times faster than kfp-local's"] is None
