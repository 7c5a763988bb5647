"""Plays histories of the workers under faults and says which seeds break a promise.

    python -m tests.simulation --seed 1 --histories 10000
    python -m tests.simulation --trace 802                  # one seed again, step by step
    python -m tests.simulation --trace 802 --shrink         # as few faults as it takes
    python -m tests.simulation --crowded --seed 1           # three rollouts at once, and stalled workers

The exit code is 1 if a promise was broken; the first history that broke one is then shrunk and shown.
"""

import argparse
import sys
import time

from tests.simulation.batches import batches
from tests.simulation.scenario import Scenario, draw, draw_crowded
from tests.simulation.shrink import shrink
from tests.simulation.verdict import Verdict, muted, try_scenario

EXIT_OK, EXIT_BROKEN = 0, 1
_SAY_EVERY_S = 10.0


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    of_seed = draw_crowded if arguments.crowded else draw
    if arguments.trace is not None:
        return replay(of_seed(arguments.trace), is_shrunk=arguments.shrink)
    started, failing, done, said = time.monotonic(), list[Verdict](), 0, 0.0
    played = batches(arguments.seed, arguments.histories, arguments.processes, is_crowded=arguments.crowded)
    for verdicts, count in played:
        failing += verdicts
        done += count
        for verdict in verdicts:
            print(f"seed {verdict.scenario.seed}: {verdict.wrong[0]}", flush=True)
        if time.monotonic() - said > _SAY_EVERY_S:
            said = time.monotonic()
            print(f"{done} histories, {done / (said - started):.0f} a second, {len(failing)} failing", flush=True)
        if len(failing) >= arguments.stop_after:
            break
    took_s = time.monotonic() - started
    seeds = f"seeds {arguments.seed} to {arguments.seed + done - 1}"
    print(f"{done} histories ({seeds}) in {took_s:.0f} s, {done / took_s:.0f} a second: {len(failing)} failing")
    if not failing:
        return EXIT_OK
    again = f"{'--crowded ' * arguments.crowded}--trace {failing[0].scenario.seed} --shrink"
    print(f"\nthe first of them, shrunk (again: python -m tests.simulation {again})")
    replay(failing[0].scenario, is_shrunk=True)
    return EXIT_BROKEN


def replay(scenario: Scenario, *, is_shrunk: bool) -> int:
    """Play one scenario again and print what happened; return 1 if it breaks a promise."""
    with muted():
        verdict = try_scenario(scenario)
        if is_shrunk and verdict.wrong:
            verdict = shrink(verdict, say=print)
        lines: list[str] = []
        verdict = try_scenario(verdict.scenario, script=dict(verdict.happened), trace=lines.append)
    for line in lines:
        if "inflight/" not in line and "list cancelling" not in line:  # the sweeps of idle workers
            print(line)
    print(f"\n{verdict.scenario}\n")
    for key, hit in verdict.happened.items():
        print(f"fault: {key}: {hit.kind} {hit.seconds or ''}")
    print("\n".join(verdict.wrong) or f"nothing wrong; at rest after {verdict.ended_at:.0f} s, {verdict.jobs} jobs")
    return EXIT_BROKEN if verdict.wrong else EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="the first seed [1]")
    parser.add_argument("--histories", type=int, default=10_000, metavar="N", help="how many seeds from there [10000]")
    parser.add_argument("--processes", type=int, default=1, metavar="P", help="how many processes play [1]")
    parser.add_argument("--stop-after", type=int, default=20, metavar="N", help="failing histories to stop after [20]")
    parser.add_argument(
        "--crowded", action="store_true", help="three rollouts at once to one endpoint, stalled workers"
    )
    parser.add_argument("--trace", type=int, metavar="SEED", help="play this seed and print every effect")
    parser.add_argument("--shrink", action="store_true", help="with --trace: make a failing history smaller first")
    return parser


if __name__ == "__main__":
    sys.exit(main())
