"""A record whose job was cancelled takes its twin, if there is one that still counts, and does so once."""

from pathlib import Path

import pytest

from tests.support.stage_world import StageWorld
from tests.support.world import MemoryJobs
from workers.engine import Done, Watch
from workers.record import JobRef
from workers.stage import Context, JobState, JobStatus

CANCELLED = JobStatus(JobState.CANCELLED)


class Lists(MemoryJobs):
    """Finds cancelled jobs too where there is no other, as Vertex AI's list does."""

    def find(self, context: Context) -> JobRef | None:
        named = [self._ref(id_) for id_, job in self.jobs.items() if job["name"] == context.job_name]
        counting = [job for job in named if self.jobs[job.id]["state"] is not JobState.CANCELLED]
        return next(iter(counting or named), None)


@pytest.fixture
def world(tmp_path: Path) -> StageWorld:
    """Return a stage of one attempt; what it launches is listed whatever has become of it."""
    made = StageWorld(tmp_path)
    jobs = Lists(name=made.jobs[0].name)
    made.jobs[:] = [jobs]
    made.stage.phases = (jobs,)
    made.stage.attempts = 1
    return made


def add_twin(world: StageWorld, watch: Watch) -> str:
    """Let a second job of the attempt turn up, as from a worker that slept before its create."""
    twin = f"{watch.job.id}-twin"
    world.jobs[0].jobs[twin] = {"name": watch.job.name, "state": JobState.ACTIVE}
    return twin


def reason(world: StageWorld) -> str:
    failure = world.record().failure
    assert failure is not None
    return failure.reason


def test_two_cancelled_twins_are_not_adopted_in_turns(world: StageWorld) -> None:
    """The twin is taken; when it too is cancelled, the first is not taken back, and the run ends with the cause."""
    engine, watch = world.watched()
    twin = add_twin(world, watch)
    world.jobs[0].end(watch.job.id, JobState.CANCELLED)
    adopted = engine.observe(watch.entry, CANCELLED)
    assert isinstance(adopted, Watch)
    assert adopted.job.id == twin
    world.jobs[0].end(twin, JobState.CANCELLED)
    assert isinstance(engine.observe(adopted.entry, CANCELLED), Done)
    assert reason(world) == "job-cancelled"


def test_a_job_cancelled_at_its_deadline_is_not_replaced_by_a_late_twin(world: StageWorld) -> None:
    """The attempt's time is up, whoever's job it is: else a twin that came late would begin the time anew."""
    engine, watch = world.watched()
    add_twin(world, watch)
    world.clock.move(world.stage.deadline_s + 1)
    stopping = engine.observe(watch.entry, JobStatus(JobState.ACTIVE))
    assert isinstance(stopping, Watch)
    assert isinstance(engine.observe(stopping.entry, CANCELLED), Done)
    assert reason(world) == "deadline"
