"""A run can be cancelled at any instant: its job stops within seconds, nothing later starts, nothing stays deployed."""

import random
from dataclasses import replace
from typing import Any

import pytest

from tests.simulation.faults import Kind
from tests.simulation.history import World, build, play
from tests.simulation.invariants import judge, records
from tests.simulation.jobs import Job
from tests.simulation.planted import engine_with
from tests.simulation.scenario import Run, Scenario, draw
from tests.simulation.verdict import muted, try_scenario
from tests.simulation.worker import Make
from workers.record import Outcome, StageRecord

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


def _slow(seed: int) -> Scenario:
    """Return runs that are cancelled as their events arrive, on a slow network that loses an answer now and then."""
    rng, plain = random.Random(seed), draw(seed)
    runs = tuple(
        replace(run, times=run.times[:1], told="event", cancel_at=run.times[0] + rng.uniform(0.0, 3.0))
        for run in plain.runs
    )
    return replace(
        plain,
        shape=rng.choice(("chain", "train", "preprocess")),
        runs=runs,
        workers=3,
        kills=(),
        kinds=(Kind.LATE, Kind.BUSY, Kind.UNAVAILABLE),
        rate=0.02,
        cancel_s=2.0,
        is_slow=True,
    )


def _unclear(seed: int) -> Scenario:
    """Return a run that is cancelled soon after it began, where requests fail and answers get lost, but no process dies."""
    plain = draw(seed)
    told_at = plain.runs[0].times[0]
    run = Run("r1", (told_at,), cancel_at=told_at + random.Random(seed).uniform(0.5, 15.0))
    kinds = (Kind.LATE, Kind.LOST_ANSWER, Kind.BUSY, Kind.UNAVAILABLE)
    return replace(plain, shape="train", runs=(run,), kills=(), kinds=kinds, rate=0.05, cancel_s=2.0, settles_s=(10.0,))


def _longest_until_asked(seeds: range, make: Make) -> float:
    """Return how long after its run's cancellation, at most, a job ran on before it was asked to stop."""
    longest = 0.0
    with muted():
        for seed in seeds:
            world = build(_unclear(seed), make)
            play(world)
            assert judge(world) == [], seed
            (at,) = world.cancelled.values()
            for job in world.jobs:
                end = next((since for since, state in job.states if state == "CANCELLING"), job.ended_at)
                longest = max(longest, end - max(at, job.created))
            world.scheduler.close()
    return longest


def _ran_to_their_end(seeds: range, make: Make) -> tuple[int, int]:
    """Return how many jobs of cancelled runs there were, and how many of them nobody stopped."""
    seen = overlooked = 0
    with muted():
        for seed in seeds:
            world = build(_slow(seed), make)
            play(world)
            for record in records(world):
                mine = [job for job in world.jobs if _is_of(job, record)]
                seen += len(mine)
                overlooked += record.outcome is not Outcome.CANCELLED and any(map(_lasted, mine))
            world.scheduler.close()
    return seen, overlooked


def _is_of(job: Job, record: StageRecord) -> bool:
    return (job.labels["baton-run"], job.labels["baton-stage"]) == (record.run_id, record.stage)


def _lasted(job: Job) -> bool:
    return job.ended_at - job.created > 40.0 and all(state != "CANCELLING" for _, state in job.states)


@pytest.mark.slow
def test_a_claim_on_its_way_does_not_escape_its_cancellation() -> None:
    """It looked for the tombstone before that stood; its job is stopped all the same."""
    seen, overlooked = _ran_to_their_end(range(400), Make())
    assert seen > 50
    assert overlooked == 0


@pytest.mark.slow
def test_a_cancellation_that_is_settled_at_once_is_caught() -> None:
    """What the test above is for: nothing runs yet, and so nothing is left to stop, it seems."""

    def at_once(engine: Any, run_id: str) -> None:
        engine.ledger.settle_cancellation(run_id, "w", engine.now())
        engine._moves.cancelled.add(run_id)

    _, overlooked = _ran_to_their_end(range(400), Make(engine=engine_with(engine___settle_cancellation=at_once)))
    assert overlooked > 0


_UNCLEAR_SEEDS = range(300)
_SETTLED_AND_ASKED_S = 30.0  # lists settle in 10 s, then the job is asked to stop at every look until that is answered


@pytest.mark.slow
def test_a_job_whose_launch_nobody_knows_of_is_stopped_too() -> None:
    """The answer to its launch, or its record, was lost when the run was cancelled; it is looked for first."""
    assert 0.0 < _longest_until_asked(_UNCLEAR_SEEDS, Make()) < _SETTLED_AND_ASKED_S


@pytest.mark.slow
def test_a_stage_that_is_closed_without_a_look_is_caught() -> None:
    """What the test above is for: such a job runs on until the search for strays comes by."""

    def without_a_look(launches: Any, entry: Any) -> Any:
        return launches._ends.cancelled(entry)

    make = Make(engine=engine_with(launches___cancelled=without_a_look))
    assert _longest_until_asked(_UNCLEAR_SEEDS, make) > _SETTLED_AND_ASKED_S
