"""The loop of a worker with hundreds of runs: what a sweep and a look cost, and who goes first after a restart."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.loops import SETTINGS, Delivered
from tests.support.stage_world import StageWorld
from tests.support.waiting import wait_until
from workers.loop import Loop
from workers.record import JobRef
from workers.settings import Settings
from workers.stage import JobState, JobStatus

RUNS = 300


class House:
    """A ledger with `RUNS` running jobs that a worker before this one has left, and its loop."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = StageWorld(tmp_path)
        for number in range(RUNS):
            run_id = f"r{number:03d}"
            self.world.intake("before").accept(self.world.message(run_id, event_id=run_id))
            self.world.engine("before").advance(run_id)
        self.jobs = self.world.jobs[0]
        self.asked: list[int] = []
        self.reads: list[str] = []
        self.sweeps = 0
        statuses, listed = self.jobs.statuses, self.world.objects.list

        def counted(jobs: Sequence[JobRef]) -> Mapping[str, JobStatus]:
            self.asked.append(len(jobs))
            return statuses(jobs)

        def swept(prefix: str) -> Iterator[str]:
            names = list(listed(prefix))
            self.sweeps += prefix.startswith("inflight/")
            return iter(names)

        monkeypatch.setattr(self.jobs, "statuses", counted)
        monkeypatch.setattr(self.world.objects, "list", swept)
        self.world.objects.on_effect = self._note
        options = Settings.from_environment(SETTINGS)
        self.loop = Loop(self.world.stage, self.world.engine(), self.world.intake(), options)

    def _note(self, moment: str, effect: str) -> None:
        if effect.startswith("read runs/") and effect.endswith("/preprocess.json"):
            self.reads.append(effect.split("/")[1])

    @contextmanager
    def running(self) -> Iterator[None]:
        """The loop on a thread of its own."""
        thread = threading.Thread(target=self.loop.run)
        thread.start()
        try:
            yield
        finally:
            self.loop.stop()
            thread.join(10)
        assert not thread.is_alive()


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return House(tmp_path, monkeypatch)


def test_a_sweep_reads_no_record_of_a_run_that_is_taken_care_of(house: House) -> None:
    """It lists the markers; a run is read once, when this worker takes it up."""
    with house.running():
        wait_until(lambda: len(house.reads) >= RUNS, what="all runs taken up")
        before = house.sweeps
        wait_until(lambda: house.sweeps >= before + 5, what="five more sweeps")
    assert sorted(house.reads) == [f"r{number:03d}" for number in range(RUNS)]


def test_a_look_is_one_question_for_all_jobs(house: House) -> None:
    """Jobs that were found one after another are asked for together; those that run on cost no read of the ledger."""
    with house.running():
        wait_until(lambda: house.asked[-2:] == [RUNS, RUNS], what="two looks at all jobs")
    assert len(house.reads) == RUNS
    assert len(house.asked) <= 5


def test_a_job_that_ends_among_hundreds_is_noticed(house: House) -> None:
    """Though all others just go on: its event is published, its marker goes, the others stay."""
    with house.running():
        wait_until(lambda: len(house.reads) >= RUNS, what="all runs taken up")
        house.jobs.end("job-8", JobState.SUCCEEDED)
        wait_until(lambda: "r007.preprocess.done" in house.world.publisher.ids("preprocess-done"), what="the event")
        wait_until(lambda: "inflight/preprocess/r007" not in house.world.objects.contents, what="the marker gone")
    assert len(list(house.world.ledger.marked("preprocess"))) == RUNS - 1
    assert house.world.publisher.ids("preprocess-done") == ["r007.preprocess.done"]


def test_what_comes_in_does_not_wait_behind_what_a_restart_finds(house: House) -> None:
    """A message that arrives while hundreds of runs are taken up is launched before the last of them is read."""
    arrived = Delivered(*_body(house))
    launched_after: list[int] = []
    on_effect, begun = house.world.objects.on_effect, threading.Event()

    def note(moment: str, effect: str) -> None:
        on_effect(moment, effect)
        if len(house.reads) >= 20 and not begun.is_set():
            begun.set()
            house.loop.on_message(arrived)

    def created(moment: str, effect: str) -> None:
        if (moment, effect) == ("after", "create"):
            launched_after.append(len(house.reads))

    house.world.objects.on_effect, house.jobs.on_effect = note, created
    with house.running():
        wait_until(lambda: launched_after, what="the new run's job")
        wait_until(lambda: len(set(house.reads)) >= RUNS, what="all runs taken up")
    assert arrived.answers == ["ack"]
    assert launched_after[0] < RUNS / 2


def _body(house: House) -> tuple[bytes, Mapping[str, str]]:
    message = house.world.message("new", event_id="new")
    return message.data, message.attributes
