"""What does Baton add to the work itself, beside its peers? `python -m bench.overhead [--peers zenml,metaflow,kfp,…]`.

A chain of three no-op jobs, measured in one run for Baton and for the peers whose scripts are at hand, one after another.
A table is printed, and every figure is kept as a line of JSON.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.child import ROOT
from bench.overhead import ours, peers
from bench.overhead.figures import Row, table

RESULTS = ROOT / "bench" / "results"
SCRIPTS_VARIABLE = "BATON_BENCH_PEERS"
EXIT_PEER_FAILED = 1
_PEER_FIGURES = ("idle", "latency", "throughput")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table; return 1 if a peer could not be measured."""
    chosen = _parser().parse_args(arguments)
    named = [name.strip() for name in chosen.peers.split(",") if name.strip()]
    unknown = sorted(set(named) - set(peers.PEERS))
    if unknown:
        sys.exit(f"--peers {','.join(unknown)}: not known; choose of {', '.join(peers.PEERS)}")
    if named and not (chosen.peers_dir and chosen.peers_dir.is_dir()):
        sys.exit(f"the peers' scripts are not at {chosen.peers_dir}; give --peers-dir, or set {SCRIPTS_VARIABLE}")
    figures = chosen.figures.split(",")
    sleeps_ms = [int(text) for text in chosen.sleeps.split(",")]
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.mkdir(parents=True, exist_ok=True)

    before = ours.environment()
    _say("baton")
    rows = ours.measure(figures, chosen.own_n, chosen.runs, chosen.limit, sleeps_ms)
    failures = _measure_peers(named, chosen, rows) if named else []
    lines = [json.dumps(row.to_json()) for row in rows]
    context = {"before": before, "after": ours.environment(), "failures": failures}
    chosen.json.write_text("\n".join([json.dumps(context), *lines]) + "\n", encoding="utf-8")
    print(table(rows))
    for failure in failures:
        print(f"not measured: {failure}")
    _say(f"figures: {chosen.json}")
    return EXIT_PEER_FAILED if failures else 0


def _measure_peers(named: Sequence[str], chosen: argparse.Namespace, rows: list[Row]) -> list[str]:
    options = peers.Options(
        scripts=chosen.peers_dir.resolve(),
        venvs=chosen.venvs.resolve(),
        logs=RESULTS,
        figures=",".join(figure for figure in chosen.figures.split(",") if figure in _PEER_FIGURES),
        n=chosen.n,
        runs=chosen.runs,
        limit_s=chosen.limit,
        sleeps_ms=chosen.sleeps,
        peer_limit_s=chosen.peer_limit,
    )
    options.venvs.mkdir(parents=True, exist_ok=True)
    failures = []
    for name in named:  # installed before anything is measured: pip and a measurement must not share the machine
        try:
            peers.interpreter(peers.PEERS[name], options)
        except peers.PeerFailed as fault:
            failures.append(str(fault))
    for name in named:
        if any(failure.startswith(f"{name}:") for failure in failures):
            continue
        _say(name)
        try:
            for row in peers.measure(peers.PEERS[name], options):
                rows.append(row)
        except peers.PeerFailed as fault:
            failures.append(str(fault))
    return failures


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.overhead", description=__doc__)
    at = os.environ.get(SCRIPTS_VARIABLE)
    parser.add_argument("--peers", default="", help=f"which, comma-separated, of {', '.join(peers.PEERS)}")
    parser.add_argument("--peers-dir", type=Path, default=Path(at) if at else None, help="where their scripts are")
    parser.add_argument(
        "--venvs", type=Path, default=RESULTS / "venvs", help="where their environments are kept (default: %(default)s)"
    )
    parser.add_argument("--figures", default=",".join(ours.FIGURES), help="comma-separated (default: %(default)s)")
    parser.add_argument("--own-n", type=int, default=30, help="Baton's runs per latency figure (default: %(default)s)")
    parser.add_argument("--n", type=int, default=5, help="the peers' (default: %(default)s)")
    parser.add_argument("--sleeps", default="0,100", help="what a step sleeps, ms (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=200, help="runs triggered at once (default: %(default)s)")
    parser.add_argument("--limit", type=float, default=60, help="longest burst, s (default: %(default)s)")
    parser.add_argument("--peer-limit", type=float, default=420, help="longest peer, s (default: %(default)s)")
    parser.add_argument("--json", type=Path, default=RESULTS / "overhead.jsonl", help="(default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
