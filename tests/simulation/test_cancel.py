"""A run can be cancelled at any instant: its job stops within seconds, nothing later starts, nothing stays deployed."""

import random
from dataclasses import replace

import pytest

from tests.simulation.history import World, build, play
from tests.simulation.invariants import judge, records
from tests.simulation.scenario import Run, Scenario, draw
from tests.simulation.verdict import muted, try_scenario
from workers.record import Outcome

INSTANTS = 1000
_SHARE = 2
_STOPPED_WITHIN_S = 10.0  # from the cancellation's acceptance until the provider was asked


def _scenario(seed: int) -> Scenario:
    """Return one run that is cancelled at an instant of its life; in every second history with faults besides."""
    rng = random.Random(seed)
    shape = rng.choice(("chain", "deploy", "train", "preprocess"))
    longest = {"chain": 700.0, "deploy": 250.0}.get(shape, 250.0)
    run = Run("r1", (1.0,), cancel_at=rng.uniform(0.0, longest))
    plain = replace(draw(seed), shape=shape, runs=(run,), kills=(), nonsense=(), is_slow=False, workers=2)
    return plain if seed % 2 else replace(plain, rate=0.0, until=run.cancel_at or 0.0, cancel_s=5.0)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", range(_SHARE))
def test_cancelling_at_any_instant_leaves_nothing_running(part: int) -> None:
    """One thousand random instants, half of them with everything else going wrong too."""
    with muted():
        for seed in range(part, INSTANTS, _SHARE):
            verdict = try_scenario(_scenario(seed))
            assert not verdict.wrong, f"seed {seed}: {verdict.wrong}"


def test_the_job_is_asked_to_stop_within_seconds() -> None:
    """Without faults, the provider hears of a cancellation within seconds, however rarely the job is looked at."""
    outcomes = set()
    with muted():
        for seed in range(0, 200, 2):
            world = build(_scenario(seed))
            play(world)
            assert judge(world) == [], seed
            outcomes |= {record.outcome for record in records(world)}
            for took_s in _until_stopped(world):
                assert took_s < _STOPPED_WITHIN_S, seed
            world.scheduler.close()
    assert outcomes >= {Outcome.SUCCEEDED, Outcome.CANCELLED}, "some cancellations came too late, most did not"


def _until_stopped(world: World) -> list[float]:
    """Return how long after the cancellation each job was told to stop, if it ran then."""
    (at,) = world.cancelled.values()
    asked = [since for job in world.jobs for since, state in job.states if state == "CANCELLING"]
    return [since - at for since in asked]
