"""The engine launches once, tries again, and publishes once, wherever a process dies."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.stage_world import SETTLE_S, StageWorld
from tests.support.world import Crash
from workers.engine import Done, Later, Policy, Watch
from workers.errors import BadOutput, LaunchRefused, TransientError
from workers.intake import Fate, Message
from workers.record import Outcome, State
from workers.stage import JobState, JobStatus


@pytest.fixture
def world(tmp_path: Path) -> StageWorld:
    return StageWorld(tmp_path)


def test_a_run_goes_through(world: StageWorld) -> None:
    """Claim, launch, watch, publish; the marker goes last."""
    assert world.intake().accept(world.message()).fate is Fate.ACCEPTED
    assert list(world.ledger.marked("preprocess")) == ["r1"]
    world.drive()
    assert [t.state for t in world.record().history] == list(State)
    assert world.record().outcome is Outcome.SUCCEEDED
    assert world.publisher.ids("preprocess-done") == ["r1.preprocess.done"]
    assert list(world.ledger.marked("preprocess")) == []
    assert len(world.jobs[0].jobs) == 1


def test_a_stage_of_several_phases_runs_them_in_order(tmp_path: Path) -> None:
    """A rollout is a chain of jobs under one claim, and its event is made of what all gave."""
    world = StageWorld(tmp_path, phases=3)
    world.jobs[2].collected = {"digest": "d"}
    world.intake().accept(world.message())
    world.drive()
    assert [len(jobs.jobs) for jobs in world.jobs] == [1, 1, 1]
    body = json.loads(world.publisher.published[0][1])
    assert (body["dataset_uri"], body["digest"]) == ("gs://bucket/dataset", "d")


def _effects(tmp_path: Path) -> list[tuple[str, str]]:
    """Return every effect of a whole run, in order."""
    world, seen = StageWorld(tmp_path), []
    world.hook(lambda moment, effect: seen.append((moment, effect)))
    world.intake().accept(world.message())
    world.drive()
    return seen


def _deliver(world: StageWorld, worker: str, message: Message) -> None:
    """Act as Pub/Sub: the message comes until it is acknowledged."""
    for attempt in range(5):
        try:
            world.intake(f"{worker}-{attempt}").accept(message)
            return
        except Crash:
            continue
    raise AssertionError("never accepted")


def test_dying_at_any_effect_still_ends_in_one_job_and_one_event(tmp_path: Path) -> None:
    """Kill the worker before and after every single effect: another one ends the run, and nothing ran twice."""
    effects = _effects(tmp_path)
    assert len(effects) > 15
    for index, fatal in enumerate(effects):
        world, count = StageWorld(tmp_path), iter(range(10_000))

        def hook(moment: str, effect: str, index: int = index, count: Any = count) -> None:
            if next(count) == index:
                raise Crash(f"{moment} {effect}")

        world.hook(hook)
        message = world.message()
        _deliver(world, "w", message)
        for life in range(3):
            try:
                world.drive(f"life-{life}")
                break
            except Crash:
                continue
        where = f"killed {fatal[0]} effect {index} ({fatal[1]})"
        assert world.record().state is State.PUBLISHED, where
        assert [s for s in world.jobs[0].states() if s is not JobState.CANCELLED] == [JobState.SUCCEEDED], where
        assert set(world.publisher.ids("preprocess-done")) == {"r1.preprocess.done"}, where
        for run_id in world.ledger.marked("preprocess"):
            world.engine("sweeper").advance(run_id)
        assert list(world.ledger.marked("preprocess")) == [], where


def test_a_young_launch_is_left_to_its_owner(world: StageWorld) -> None:
    """Another worker waits the settle time before it takes a launch over, and then looks before it creates."""
    world.intake().accept(world.message())
    world.jobs[0].refuse = TransientError("lost", ambiguous=True)
    with pytest.raises(TransientError) as lost:
        world.engine("w1").advance("r1")
    assert lost.value.retry_after_s == SETTLE_S
    other = world.engine("w2")
    assert other.advance("r1") == Later(SETTLE_S)
    world.jobs[0].refuse = None
    world.clock.move(SETTLE_S)
    assert isinstance(other.advance("r1"), Watch)
    assert world.record().mover == "w2"


def test_a_worker_that_slept_before_its_create_looks_again(world: StageWorld) -> None:
    """Paused between its look and its create, a worker notices by its own clock and does not launch blindly."""
    world.intake().accept(world.message())
    slept = iter([True])

    def sleep_once(moment: str, effect: str) -> None:
        if effect == "find" and next(slept, False):
            world.clock.move(SETTLE_S * 5)  # meanwhile another worker takes over and launches
            assert isinstance(world.engine("w2").advance("r1"), Watch)

    world.hook(sleep_once)
    assert isinstance(world.engine("w1").advance("r1"), Watch)
    assert len(world.jobs[0].jobs) == 1


def test_two_workers_that_race_make_one_step(world: StageWorld) -> None:
    """Whoever loses the compare-and-set reads again and watches the same job."""
    world.intake().accept(world.message())
    engines = [world.engine("w1"), world.engine("w2")]
    first = engines[0].advance("r1")
    second = engines[1].advance("r1")
    assert isinstance(first, Watch)
    assert isinstance(second, Watch)
    assert first.job == second.job
    done = JobStatus(JobState.SUCCEEDED)
    world.jobs[0].end(first.job.id, JobState.SUCCEEDED)
    assert isinstance(engines[0].observe(first.entry, done), Done)
    assert isinstance(engines[1].observe(second.entry, done), Done)
    assert world.publisher.ids("preprocess-done") == ["r1.preprocess.done"]


def test_a_lost_answer_of_our_own_write_is_not_taken_for_a_rival(world: StageWorld) -> None:
    """A write that is sent again by the client after its answer was lost is recognised as ours."""
    original = world.objects.write

    def write_twice(name: str, content: bytes, *, if_generation: int) -> int:
        original(name, content, if_generation=if_generation)
        return original(name, content, if_generation=if_generation)

    world.objects.write = write_twice  # type: ignore[method-assign]
    assert world.intake().accept(world.message()).fate is Fate.ACCEPTED
    world.drive()
    assert world.record().state is State.PUBLISHED


def test_a_failed_job_is_tried_again_with_backoff_and_then_explained(world: StageWorld) -> None:
    """Each attempt is a new job; after the last, stage-failed says why and what to do."""
    world.intake().accept(world.message())
    started = world.clock.now
    world.drive(end=JobState.FAILED)
    assert [job["name"] for job in world.jobs[0].jobs.values()] == ["p-preprocess-r1-a1", "p-preprocess-r1-a2"]
    assert world.clock.now - started >= timedelta(seconds=1)
    assert world.publisher.ids("preprocess-done") == []
    topic, data, attributes = world.publisher.published[-1]
    body = json.loads(data)
    assert (topic, attributes["ce-id"]) == ("stage-failed", "r1.preprocess.failed")
    assert (body["reason"], body["attempts"], body["log_tail"]) == ("job-failed", 2, ["the last line"])
    assert body["mend"]


@pytest.mark.parametrize(
    ("fault", "jobs"), [(LaunchRefused("no such machine", "choose another"), 0), (BadOutput("empty", "look"), 1)]
)
def test_what_cannot_succeed_is_not_tried_again(world: StageWorld, fault: Exception, jobs: int) -> None:
    """A refused launch and a wrong output end the run at once, with their reason."""
    world.intake().accept(world.message())
    if isinstance(fault, LaunchRefused):
        world.jobs[0].refuse = fault
    else:

        def collect(*_: Any) -> dict[str, Any]:
            raise fault

        world.jobs[0].collect = collect  # type: ignore[method-assign]
    world.drive()
    assert len(world.jobs[0].jobs) == jobs
    assert world.record().outcome is Outcome.FAILED
    assert world.record().failure is not None
    assert world.record().failure.message == fault.message  # type: ignore[union-attr, attr-defined]


def test_a_stuck_job_is_cancelled_at_the_stages_deadline(world: StageWorld) -> None:
    """A job that never ends does not hold its run for ever."""
    world.stage.attempts = 1
    world.intake().accept(world.message())
    engine = world.engine()
    watch = engine.advance("r1")
    assert isinstance(watch, Watch)
    world.clock.move(world.stage.deadline_s + 1)
    watch = engine.observe(watch.entry, JobStatus(JobState.ACTIVE))
    assert isinstance(watch, Watch)  # until it has ended: the next attempt must not run beside it
    assert world.jobs[0].states() == [JobState.CANCELLED]
    assert isinstance(engine.observe(watch.entry, JobStatus(JobState.CANCELLED)), Done)
    assert world.record().failure is not None
    assert world.record().failure.reason == "deadline"  # type: ignore[union-attr]


def test_a_job_is_given_time_to_stop_however_late_it_is_asked(world: StageWorld) -> None:
    """After a weekend without workers a job far beyond its deadline is asked to stop first, and given up on later."""
    world.stage.attempts = 1
    world.intake().accept(world.message())
    engine = world.engine()
    watch = engine.advance("r1")
    assert isinstance(watch, Watch)
    world.clock.move(world.stage.deadline_s + 50 * 3600)
    stopping = engine.observe(watch.entry, JobStatus(JobState.ACTIVE))
    assert isinstance(stopping, Watch)
    world.clock.move(Policy().stop_s + 1)
    assert isinstance(engine.observe(stopping.entry, JobStatus(JobState.ACTIVE)), Done)
    assert world.record().failure is not None
    assert world.record().failure.reason == "job-does-not-stop"  # type: ignore[union-attr]


def test_a_cancelled_run_launches_nothing_more(world: StageWorld) -> None:
    """The tombstone stops a claimed run before its job, a running job, and every later stage."""
    world.intake().accept(world.message())
    world.ledger.cancel("r1", "someone", world.clock.now)
    world.drive()
    assert world.jobs[0].jobs == {}
    assert world.record().outcome is Outcome.CANCELLED
    assert world.intake().accept(world.message("r1")).fate is Fate.DUPLICATE
    world.ledger.cancel("r3", "someone", world.clock.now)
    assert world.intake().accept(world.message("r3")).fate is Fate.FILTERED

    world.intake().accept(world.message("r2"))
    engine = world.engine()
    watch = engine.advance("r2")
    assert isinstance(watch, Watch)
    world.ledger.cancel("r2", "someone", world.clock.now)
    assert engine.settle_cancellations() == ["r1", "r2", "r3"]
    watch = engine.observe(watch.entry, JobStatus(JobState.ACTIVE))
    assert isinstance(watch, Watch)
    assert world.jobs[0].states() == [JobState.CANCELLED]
    engine.observe(watch.entry, JobStatus(JobState.CANCELLED))
    assert world.record("r2").outcome is Outcome.CANCELLED


def test_nothing_wakes_a_launch_whose_answer_was_lost(world: StageWorld) -> None:
    """The same event told again must not make its owner ask again before the lists have settled."""
    world.intake().accept(world.message())
    engine = world.engine()
    world.jobs[0].refuse = TransientError("lost", ambiguous=True)
    with pytest.raises(TransientError):
        engine.advance("r1")
    world.jobs[0].refuse = None
    assert engine.advance("r1") == Later(SETTLE_S)
    assert world.jobs[0].jobs == {}
    world.clock.move(SETTLE_S)
    assert isinstance(engine.advance("r1"), Watch)


def test_the_next_attempt_waits_until_a_vanished_job_is_surely_gone(world: StageWorld) -> None:
    """One answer that the provider does not know the job may lie behind; two with the settle time between do not."""
    world.intake().accept(world.message())
    engine = world.engine()
    watch = engine.advance("r1")
    assert isinstance(watch, Watch)
    unknown, asked_at = JobStatus(JobState.VANISHED), world.clock.now
    assert isinstance(engine.observe(watch.entry, unknown, asked_at), Watch)
    world.clock.move(SETTLE_S * 3)
    assert isinstance(engine.observe(watch.entry, unknown, asked_at), Watch), "an old answer, looked at late"
    assert isinstance(engine.observe(watch.entry, unknown), Later), "backoff before the next attempt"
    assert world.record().attempt == 2


def test_a_job_that_could_not_be_written_down_is_not_launched_again(world: StageWorld) -> None:
    """The ledger did not answer after the launch: the job is looked for when the lists have settled, then adopted."""
    world.intake().accept(world.message())
    engine, written, hidden = world.engine(), world.objects.write, world.jobs[0].find

    def write(name: str, content: bytes, *, if_generation: int) -> int:
        if b'"state":"running"' in content:
            raise TransientError("503")
        return written(name, content, if_generation=if_generation)

    world.objects.write = write  # type: ignore[method-assign]
    with pytest.raises(TransientError) as fault:
        engine.advance("r1")
    assert fault.value.retry_after_s == SETTLE_S
    world.objects.write = written  # type: ignore[method-assign]
    world.jobs[0].find = lambda context: None  # type: ignore[method-assign]
    assert engine.advance("r1") == Later(SETTLE_S)
    world.jobs[0].find = hidden  # type: ignore[method-assign]
    world.clock.move(SETTLE_S)
    assert isinstance(engine.advance("r1"), Watch)
    assert len(world.jobs[0].jobs) == 1
