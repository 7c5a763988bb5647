"""Many runs at once while everything is killed, frozen, cut off and spoilt without pause: none is lost, none runs twice.

`make chaos SEED=… RUNS=200` runs it in full. What is left of a storm that went wrong is told with its seed and its story.
"""

import os
import time
from pathlib import Path

import pytest

from messages import StageFailed
from tests.chaos.outcomes import Outcomes
from tests.chaos.saboteur import HELD_S, STALE_S, Saboteur
from tests.chaos.starting import Starter
from tests.chaos.verdict import gather, judge
from tests.support.audit import settled_audit
from tests.support.loop_thread import LoopThread
from tests.support.parts_house import PartsHouse
from tests.support.waiting import wait_until

RUNS = int(os.environ.get("CHAOS_RUNS", "12"))
SEED = int(os.environ.get("CHAOS_SEED", "20261127"))
EVERY_S = 0.8
_STORM_S = 60 + 6 * RUNS
_CALM_S = 120 + RUNS
_ENDPOINTS = 8
# The settle time must be longer than anything that holds requests up or keeps lists behind: that is what it is for.
SETTLE_S = 2 * max(HELD_S, STALE_S)
PATIENCE = {"BATON_SETTLE_S": str(SETTLE_S), "BATON_STRAYS_S": "2", "BATON_POLL_MAX_S": "0.5", "BATON_SWEEP_S": "0.5"}


class ImpatientHouse(PartsHouse):
    """Its workers look for what others left behind every moment."""

    def env(self) -> dict[str, str]:
        return super().env() | PATIENCE


@pytest.mark.timeout(_STORM_S + _CALM_S + 300)
def test_a_storm_loses_no_run_and_runs_none_twice(tmp_path: Path) -> None:
    """All are served or explained, by one job for each stage and attempt; the audit balances; nothing is left behind."""
    print(f"seed {SEED}, {RUNS} runs")
    began = time.monotonic()
    with LoopThread() as loop:
        house = ImpatientHouse(tmp_path, loop, endpoints=min(_ENDPOINTS, RUNS), unkind_seed=SEED)
        try:
            house.start()
            weather(house, began)
        finally:
            house.close()


def weather(house: PartsHouse, began: float) -> None:
    saboteur = Saboteur(house, SEED, EVERY_S)
    with Outcomes(house.direct["pubsub"]) as outcomes, Starter(house, RUNS, SEED) as starter:

        def is_over() -> bool:
            saboteur.tick()
            return starter.is_done and len(outcomes.told) >= RUNS

        try:
            wait_until(is_over, _STORM_S, f"{RUNS} outcomes")
        except AssertionError:
            print("the storm is over before the runs are")
        stormed_s = time.monotonic() - began
        saboteur.calm()
        story = "\n".join(saboteur.story)
        wait_until(
            lambda: starter.is_done and set(outcomes.told) >= set(starter.pipelines),
            _CALM_S,
            f"every run to end after the storm; story of seed {SEED}:\n{story}\n{missing(house, starter, outcomes)}",
        )
        audit = settled_audit(house, _CALM_S)
        wrong = wait_until_right(house, starter, outcomes)
    served = [r for r, told in outcomes.told.items() if not isinstance(next(iter(told.values())).event, StageFailed)]
    print(
        f"seed {SEED}: {RUNS} runs, {len(served)} served, {RUNS - len(served)} explained; {audit['published']} events; "
        f"{sum(saboteur.done.values())} troubles in {stormed_s:.0f} s ({dict(saboteur.done)}); "
        f"whole test {time.monotonic() - began:.0f} s"
    )
    assert not wrong, f"seed {SEED}:\n" + "\n".join([*wrong, "", story])
    assert not saboteur.deaths, f"seed {SEED}: processes ended that nobody killed: {saboteur.deaths}"
    assert not set(served) & starter.failing, "a source that is not there was served"
    assert len(served) >= RUNS // 2, f"seed {SEED}: only {len(served)} of {RUNS} were served\n{story}"


def wait_until_right(house: PartsHouse, starter: Starter, outcomes: Outcomes) -> list[str]:
    """Return what stays wrong: the last cancelled job and the last marker go some moments after the last outcome."""
    wrong: list[str] = []

    def is_right() -> bool:
        wrong[:] = judge(gather(house), starter.pipelines, outcomes.told)
        return not wrong

    try:
        wait_until(is_right, 30, "nothing to be wrong")
    except AssertionError:
        return wrong
    return []


def missing(house: PartsHouse, starter: Starter, outcomes: Outcomes) -> str:
    """Tell where the runs stand that have not ended."""
    late = sorted(set(starter.pipelines) - set(outcomes.told))
    return f"now {len(late)} have no outcome: {late[:10]}; started {len(starter.pipelines)} of {starter.runs}"
