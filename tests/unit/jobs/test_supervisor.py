"""The supervisor: runs real processes, and keeps its records in step with them."""

import asyncio
import os
import signal
import sqlite3
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from localcloud.jobs import processes
from localcloud.jobs import supervisor as module
from localcloud.jobs.names import wall_clock
from localcloud.jobs.records import Outcome, Run
from localcloud.jobs.store import Document, Store
from localcloud.jobs.supervisor import Supervisor

_COMMIT = Store._commit


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition while the loop goes on."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


class Owner:
    """Listens, and remembers."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.ended: dict[str, Outcome] = {}

    def run_started(self, run: Run) -> None:
        self.started.append(run.run_id)

    def run_ended(self, run: Run, outcome: Outcome) -> None:
        self.ended[run.run_id] = outcome

    async def end(self, run_id: str) -> Outcome:
        await until(lambda: run_id in self.ended)
        return self.ended[run_id]


class House:
    """A store and a supervisor on one directory."""

    def __init__(self, folder: Path, max_parallel: int = 4) -> None:
        self.folder = folder
        (folder / "runs").mkdir(exist_ok=True)
        self.store = Store(folder)
        self.owner = Owner()
        self.supervisor = Supervisor(
            self.store, folder / "runs", wall_clock(), max_parallel=max_parallel, kill_grace_s=0.1
        )
        self.supervisor.listen("test", self.owner)

    def run(self, name: str, script: str, **fields: object) -> str:
        run_id = f"test-{name}"
        run = Run(
            run_id=run_id,
            owner=name,
            argv=["/bin/sh", "-c", script],
            env={"PATH": os.environ["PATH"]},
            directory="",
            log=str(self.folder / f"{name}.log"),
            submitted_us=0,
        )
        self.supervisor.submit(run.but(**fields))
        return run_id

    async def stop(self, grace_s: float = 0.1) -> None:
        await self.supervisor.stop(grace_s)
        self.store.close()


def in_house(folder: Path, body: Callable[[House], Awaitable[None]], max_parallel: int = 4) -> None:
    async def run() -> None:
        house = House(folder, max_parallel)
        try:
            await body(house)
        finally:
            await house.stop()

    asyncio.run(run())


def test_at_most_so_many_at_once_in_order(tmp_path: Path) -> None:
    """No more runs than the limit are alive at a time, and they start in the order they came."""

    async def body(house: House) -> None:
        active = tmp_path / "active"
        active.mkdir()
        script = f"touch {active}/$$; ls {active} | wc -l; sleep 0.03; rm {active}/$$"
        ids = [house.run(str(number), script) for number in range(12)]
        for run_id in ids:
            assert (await house.owner.end(run_id)).succeeded
        assert house.owner.started == ids
        assert max(int((tmp_path / f"{number}.log").read_text()) for number in range(12)) <= 3

    in_house(tmp_path, body, max_parallel=3)


class Disk:
    """A disk that can be full: the store's file refuses the changes of runs that `is_full_for` says, and counts them."""

    def __init__(self) -> None:
        self.refusals = 0
        self.is_full_for: Callable[[Document], bool] = lambda _: False

    def commit(self, store: Store, pending: dict[tuple[str, str], tuple[str, Document | None]]) -> None:
        if any(document is not None and self.is_full_for(document) for _, document in pending.values()):
            self.refusals += 1
            raise sqlite3.OperationalError("database or disk is full")
        _COMMIT(store, pending)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(module, "_RECORD_AGAIN_S", 0.02)
    monkeypatch.setattr(Store, "_commit", lambda store, pending: disk.commit(store, pending))
    return disk


def test_a_full_disk_delays_and_loses_nothing(tmp_path: Path, disk: Disk) -> None:
    """While the store refuses to write, runs that start or end are tried again, and their ends are recorded later."""

    async def body(house: House) -> None:
        gate = tmp_path / "gate"
        ending = house.run("ending", f"while [ ! -e {gate} ]; do sleep 0.005; done; exit 3")
        await until(lambda: bool(house.owner.started))
        starting = house.run("starting", f"echo x >>{tmp_path}/starts")
        disk.is_full_for = lambda _: True
        refused = disk.refusals
        gate.touch()
        await until(lambda: disk.refusals >= refused + 3)
        record = house.supervisor.get(ending)
        assert record is not None
        assert record.phase == "running"
        disk.is_full_for = lambda _: False
        assert (await house.owner.end(ending)).exit_code == 3
        assert (await house.owner.end(starting)).succeeded
        assert (tmp_path / "starts").read_text() == "x\n"

    in_house(tmp_path, body)


@pytest.mark.parametrize("field", ["pid", "is_expired"])
def test_a_full_disk_loses_no_timeout(tmp_path: Path, disk: Disk, field: str) -> None:
    """A disk that is full when a run has started, or just when its time is up: the run is ended as expired all the same."""

    async def body(house: House) -> None:
        starts = tmp_path / "starts"
        disk.is_full_for = lambda run: bool(run[field])
        run_id = house.run("endless", f"echo x >>{starts}; sleep 600", timeout_s=0.1)
        await until(lambda: disk.refusals >= 3 and starts.exists() and starts.read_text() == "x\n")
        assert run_id not in house.owner.ended
        disk.is_full_for = lambda _: False
        assert (await house.owner.end(run_id)).reason == "expired"
        assert starts.read_text() == "x\n"

    in_house(tmp_path, body)


@pytest.mark.parametrize("step", ["expire", "cancel", "preempt"])
def test_a_process_that_has_ended_is_not_signalled(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """While the disk refuses the record of an end, the pid is given back: it may be another's, and no time is up."""

    async def body(house: House) -> None:
        gate = tmp_path / "gate"
        disk.is_full_for = lambda run: run["phase"] == "ended"
        run_id = house.run("short", f"while [ ! -e {gate} ]; do sleep 0.005; done", timeout_s=600.0)
        await until(lambda: run_id in house.owner.started)
        gate.touch()
        await until(lambda: disk.refusals >= 2)
        signalled: list[int] = []
        monkeypatch.setattr(processes, "signal_group", lambda pid, number: signalled.append(pid))
        if step == "expire":
            house.supervisor._expire(run_id)
        else:
            getattr(house.supervisor, step)(run_id)
        seen = disk.refusals
        await until(lambda: disk.refusals >= seen + 10)  # longer than the grace before KILL
        assert signalled == []
        disk.is_full_for = lambda _: False
        outcome = await house.owner.end(run_id)
        assert outcome.exit_code == 0
        assert outcome.reason == ("cancelled" if step == "cancel" else "exited")

    in_house(tmp_path, body)


def test_strays_of_a_run_whose_service_was_killed_at_its_end_are_ended(tmp_path: Path) -> None:
    """The end is on record, the tidying was still to come: the next service does it."""
    place = tmp_path / "runs" / "test-gone" / "2"
    place.mkdir(parents=True)
    token = {processes.TOKEN_VARIABLE: "test-gone.2"}
    stray = subprocess.Popen(["/bin/sleep", "600"], env=token, start_new_session=True)
    try:

        async def body(house: House) -> None:
            await house.supervisor.recover()
            await until(lambda: stray.poll() is not None and not place.parent.exists())

        in_house(tmp_path, body)
        assert stray.returncode == -signal.SIGKILL
    finally:
        stray.kill()
        stray.wait()


def test_what_vanishes_is_started_anew_three_times(tmp_path: Path) -> None:
    """A run whose processes are all killed starts anew; the fourth time it is given up as lost."""

    async def body(house: House) -> None:
        run_id = house.run("v", "echo x; kill -9 -$(ps -o pgid= -p $$ | tr -d ' ')")
        outcome = await house.owner.end(run_id)
        assert outcome.reason == "lost"
        assert "4 times" in outcome.message
        assert (tmp_path / "v.log").read_text() == "x\n" * 4

    in_house(tmp_path, body)


def test_an_own_signal_is_an_exit(tmp_path: Path) -> None:
    """A job that is killed alone, as by the memory killer, has failed: its wrapper says how."""

    async def body(house: House) -> None:
        outcome = await house.owner.end(house.run("k", "kill -9 $$"))
        assert (outcome.reason, outcome.exit_code) == ("exited", 137)

    in_house(tmp_path, body)


def test_scratch_is_private_and_removed(tmp_path: Path) -> None:
    """Each run has a scratch directory of its own, its working directory and TMPDIR, gone after its end."""

    async def body(house: House) -> None:
        await house.owner.end(house.run("s", 'touch here "$TMPDIR/there"; pwd; ls | wc -l'))
        where, count = (tmp_path / "s.log").read_text().split()
        assert int(count) == 2
        await until(lambda: not Path(where).exists())

    in_house(tmp_path, body)
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_port_is_chosen_at_each_start(tmp_path: Path) -> None:
    """A server learns its port from its variable and its arguments."""

    async def body(house: House) -> None:
        run_id = house.run("p", "echo $THE_PORT $(THE_PORT)", port_variable="THE_PORT")
        await house.owner.end(run_id)
        first, second = (tmp_path / "p.log").read_text().split()
        assert first == second
        assert 1024 < int(first) < 65536

    in_house(tmp_path, body)


def test_stop_and_start_carry_on(tmp_path: Path) -> None:
    """A run cut off by a stop is queued for the next start, one that ended well in the grace has ended."""
    script = f"trap 'exit 0' TERM; echo x >>{tmp_path}/well; while true; do sleep 0.01; done"

    async def first(house: House) -> None:
        house.run("well", script)
        house.run("cut", f"echo x >>{tmp_path}/cut; [ $(wc -l <{tmp_path}/cut) -gt 1 ] || sleep 60")
        await until(lambda: (tmp_path / "well").exists() and (tmp_path / "cut").exists())
        await house.supervisor.stop(2.0)
        assert house.owner.ended["test-well"].succeeded
        assert "test-cut" not in house.owner.ended

    async def second(house: House) -> None:
        await house.supervisor.recover()
        assert (await house.owner.end("test-cut")).succeeded
        assert (tmp_path / "cut").read_text() == "x\nx\n"
        assert (tmp_path / "well").read_text() == "x\n"

    in_house(tmp_path, first)
    in_house(tmp_path, second)
