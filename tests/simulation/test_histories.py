"""Ten thousand histories of the real workers under faults keep every promise; a seed that does not is printed."""

import datetime
import os
import subprocess
import sys

import pytest

from tests.simulation.scenario import draw, draw_crowded
from tests.simulation.shrink import shrink
from tests.simulation.verdict import Verdict, muted, try_scenario

HISTORIES = int(os.environ.get("SIMULATED_HISTORIES", "10000"))
_SHARE = 4  # parts, so that two processors share the work and each part stays below the time limit of a test
# Others every day, the same for everybody on one day: what a pull request breaks is not found by chance.
FIRST_SEED = int(os.environ.get("SIMULATION_SEED", datetime.datetime.now(datetime.UTC).strftime("%Y%m%d0000")))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(_SHARE))
def test_every_history_keeps_the_promises(part: int) -> None:
    """Crashes, pauses, lost answers, late lists, doubled messages: one job, one outcome, nothing lost, nothing left."""
    seeds = range(FIRST_SEED + part, FIRST_SEED + HISTORIES, _SHARE)
    print(f"seeds {seeds}")
    with muted():
        for seed in seeds:
            verdict = try_scenario(draw(seed))
            assert not verdict.wrong, _report(verdict)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_crowded_rollouts_keep_the_promises() -> None:
    """Three rollouts at once, and threads that stall between a look and a deed: the last that succeeded serves."""
    seeds = range(FIRST_SEED, FIRST_SEED + HISTORIES // 20)
    print(f"crowded seeds {seeds}")
    with muted():
        for seed in seeds:
            verdict = try_scenario(draw_crowded(seed))
            assert not verdict.wrong, _report(verdict, "--crowded ")


def test_the_same_seed_is_the_same_history_in_any_process() -> None:
    """A failing seed can be played again, whatever order of sets and dicts a process has."""
    command = [sys.executable, "-m", "tests.simulation", "--trace", "7"]
    told = [
        subprocess.run(
            command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": hash_seed}
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert told[0] == told[1]
    assert "nothing wrong" in told[0]


def _report(verdict: Verdict, option: str = "") -> str:
    smallest = shrink(verdict)
    faults = "\n".join(f"  {key}: {hit.kind} {hit.seconds or ''}" for key, hit in smallest.happened.items())
    wrong = "\n".join(smallest.wrong)
    return (
        f"seed {verdict.scenario.seed} breaks a promise; shrunk to {len(smallest.happened)} faults:\n{faults}\n{wrong}\n"
        f"see it: python -m tests.simulation {option}--trace {verdict.scenario.seed} --shrink"
    )


def test_several_processes_play_the_same_histories() -> None:
    """`make simulate` shares the seeds between processors, and counts each once."""
    command = [sys.executable, "-m", "tests.simulation", "--histories", "20", "--processes", "2"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout.startswith("20 histories (seeds 1 to 20)") or "\n20 histories (seeds 1 to 20)" in told.stdout
