"""Spare processes: made in quiet moments, started once, found and ended as any run."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from localcloud.jobs import processes, spares
from localcloud.jobs.spares import Spares
from tests.support.waiting import wait_until
from tests.unit.jobs.spare_starter import LIMIT_S, Starter, count, program, reaped, running, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="spare processes need Linux's /proc")


def test_what_runs_in_a_spare_is_found_and_ended(tmp_path: Path) -> None:
    """The wrapper is known by its run, the job by its token, and TERM ends the job while the wrapper lives to write it."""
    argv = program(tmp_path, "import sys, time, os\nopen(sys.argv[1], 'w').write(str(os.getpid()))\ntime.sleep(600)")

    async def scenario(made: Spares) -> None:
        starter = Starter(made, tmp_path)
        await starter.warm(program(tmp_path, "pass"))
        program(tmp_path, "import sys, time, os\nopen(sys.argv[1], 'w').write(str(os.getpid()))\ntime.sleep(600)")
        pid, run = starter.start([*argv, "first"])
        job = int(await until(lambda: (tmp_path / "first").exists() and (tmp_path / "first").read_text(), "the start"))
        assert processes.is_alive(pid, run)
        assert not processes.is_alive(pid, tmp_path / "run-1")
        assert os.getpgid(job) == pid
        processes.signal_group(pid, signal.SIGTERM)
        assert await reaped(pid) == 128 + signal.SIGTERM
        assert processes.exit_code(run) == 128 + signal.SIGTERM
        pid, run = starter.start([*argv, "second"])
        await until(lambda: (tmp_path / "second").exists() and (tmp_path / "second").read_text(), "the start")
        assert await asyncio.to_thread(processes.kill_strays, f"token-{starter.number}.1") == 2
        assert await reaped(pid) == -signal.SIGKILL
        assert processes.exit_code(run) is None

    running(scenario)


def test_a_claimed_run_is_left_alone(tmp_path: Path) -> None:
    """A spare whose run was claimed by another gives way, and the program does not run."""
    argv = program(tmp_path, "import sys; open(sys.argv[1], 'w')")

    async def scenario(made: Spares) -> None:
        starter = Starter(made, tmp_path)
        await starter.warm([*argv, "warm"])
        assert processes.void(tmp_path / f"run-{starter.number + 1}")
        pid, _ = starter.start([*argv, "started"])
        assert await reaped(pid) == processes.CLAIM_LOST
        assert not (tmp_path / "started").exists()

    running(scenario)


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    """It ends with 126 before it claims, as the other wrapper does."""
    argv = program(tmp_path, "pass")

    async def scenario(made: Spares) -> None:
        starter = Starter(made, tmp_path)
        await starter.warm(argv)
        run, gone = tmp_path / "run", tmp_path / "gone"
        pid = made.start(
            run, argv=[sys.executable, *argv], env=starter.env, directory=gone, log=tmp_path / "log", token="t"
        )
        assert count(made) == spares._SPARES - 1
        assert await reaped(pid) == 126
        assert processes.claimant(run) is None

    running(scenario)


@pytest.mark.parametrize("victim", ["wrapper", "job", "both"])
def test_spares_that_were_killed(victim: str, tmp_path: Path) -> None:
    """No run is lost to a spare that somebody killed: it is started otherwise, or is a lost run that was never claimed."""
    argv = program(tmp_path, "import sys; open(sys.argv[1], 'a').write('x')")

    async def scenario(made: Spares) -> None:
        starter = Starter(made, tmp_path)
        await starter.warm([*argv, "warm"])
        for spare in next(iter(made._ready.values())):
            children = await until(
                lambda pid=spare.pid: Path(f"/proc/{pid}/task/{pid}/children").read_text().split(), "the second process"
            )
            for pid in {"wrapper": [spare.pid], "job": children, "both": [spare.pid, *children]}[victim]:
                os.kill(int(pid), signal.SIGKILL)
        await until(lambda: victim == "job" or not any(map(spares._lives, next(iter(made._ready.values())))), "the end")
        pid, run = starter.start([*argv, "started"])
        if victim == "job":
            assert await reaped(pid) == -signal.SIGKILL
            assert processes.exit_code(run) is None
            assert not (tmp_path / "started").exists()
        else:
            assert await reaped(pid) == 0
            assert (tmp_path / "started").read_text() == "x"

    running(scenario)


def test_they_end_with_their_service(tmp_path: Path) -> None:
    """A service killed with SIGKILL leaves no spare behind, and a run that was handed over goes on to its end."""
    argv = program(
        tmp_path,
        "import sys, time\nopen('began', 'a').write('x')\nwhile not __import__('os').path.exists('gate'): time.sleep(0.01)",
    )
    service = f"""\
import asyncio, os, signal, sys
from pathlib import Path
from localcloud.jobs import spares
async def main():
    made, folder = spares.Spares(lambda: False), Path({str(tmp_path)!r})
    (folder / "gate").touch()
    for number in range(3):
        if number == 2:
            while sum(map(len, made._ready.values())) < 3: await asyncio.sleep(0.01)
            (folder / "gate").unlink()
            before = [spare.pid for ready in made._ready.values() for spare in ready]
        pid = made.start(folder / str(number), argv=[sys.executable, {argv[0]!r}], env=dict(PATH="/bin"), directory=folder,
                         log=folder / "log", token="t")
        if number < 2: os.waitpid(pid, 0)
    assert pid in before
    print(*before, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", service],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    taken, *left = (int(pid) for pid in done.stdout.split())
    wait_until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in left), LIMIT_S, "the end of the spares")
    wait_until(lambda: (tmp_path / "began").read_text() == "xxx", LIMIT_S, "the start of the run")
    assert processes.is_alive(taken, tmp_path / "2")
    (tmp_path / "gate").touch()
    wait_until(lambda: processes.exit_code(tmp_path / "2") == 0, LIMIT_S, "the end of the run")


@pytest.mark.parametrize(
    "argv",
    [
        ["-c", "pass"],
        ["-X", "utf8", "program.py"],
        ["program"],
        ["program.py", "x" * spares._ARGUMENTS_BYTES],
        ["program.py", "", *"x" * spares._ARGUMENTS_BYTES],
    ],
)
def test_what_no_spare_can_become_is_started_anyway(argv: list[str], tmp_path: Path) -> None:
    """Other forms of a command, and arguments that are too long to be shown, go the ordinary way."""
    source = program(tmp_path, "pass")[0]
    (tmp_path / "program").symlink_to(source)

    async def scenario(made: Spares) -> None:
        starter = Starter(made, tmp_path)
        await starter.warm(["program.py"])
        for _ in range(3):
            pid, _ = starter.start(argv)
            assert await reaped(pid) == 0, starter.log()
        await until(lambda: count(made) == spares._SPARES, "no spare was taken")

    running(scenario)


def test_a_log_that_cannot_be_opened_costs_no_spare(tmp_path: Path) -> None:
    """The start is refused, as it is without spares, and those that stand ready stay."""

    async def scenario(made: Spares) -> None:
        starter = Starter(made, tmp_path)
        await starter.warm(program(tmp_path, "pass"))
        before = [spare.pid for ready in made._ready.values() for spare in ready]
        (tmp_path / f"log-{starter.number + 1}").mkdir()
        with pytest.raises(IsADirectoryError):
            starter.start(program(tmp_path, "pass"))
        assert [spare.pid for ready in made._ready.values() for spare in ready] == before
        assert await reaped(starter.start(program(tmp_path, "pass"))[0]) == 0

    running(scenario)


def test_a_nul_is_refused(tmp_path: Path) -> None:
    """What no process can be given is refused, spares or not."""

    async def scenario(made: Spares) -> None:
        starter = Starter(made, tmp_path)
        await starter.warm(program(tmp_path, "pass"))
        with pytest.raises(ValueError, match="null"):
            starter.start([*program(tmp_path, "pass"), "a\0b"])
        assert count(made) == spares._SPARES

    running(scenario)


def test_an_interpreter_that_does_not_come_up(tmp_path: Path) -> None:
    """A kind whose spares end by themselves is tried once; its runs tell the reason in their own logs."""

    async def scenario(made: Spares) -> None:
        starter = Starter(made, tmp_path, {"PYTHONHOME": str(tmp_path / "nothing")})
        for _ in range(2):
            pid, _ = starter.start(program(tmp_path, "pass"))
            assert await reaped(pid) == 1
        await until(lambda: count(made) >= 1, "a spare")
        await until(lambda: not any(map(spares._lives, next(iter(made._ready.values())))), "its end")
        pid, _ = starter.start(program(tmp_path, "pass"))
        assert await reaped(pid) == 1
        assert "encodings" in starter.log()
        assert count(made) == 0
        assert made._refused
        pid, _ = starter.start(program(tmp_path, "pass"))
        assert await reaped(pid) == 1
        assert made._timer is None or made._timer.cancelled() or count(made) == 0

    running(scenario)


def test_a_package_with_threads_of_its_own(tmp_path: Path) -> None:
    """Where something starts a thread with the interpreter, each job has its own interpreter and its own thread."""
    (tmp_path / "sitecustomize.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
    )
    argv = program(tmp_path, "import os; print(len(os.listdir('/proc/self/task')))")

    async def scenario(made: Spares) -> None:
        starter = Starter(made, tmp_path, {"PYTHONPATH": str(tmp_path)})
        for _ in range(2):
            await reaped(starter.start(argv)[0])
        await until(lambda: count(made) >= 1, "a spare")
        await until(lambda: not any(map(spares._lives, next(iter(made._ready.values())))), "its end")
        assert await reaped(starter.start(argv)[0]) == 0
        assert starter.log() == "2\n"
        assert made._refused

    running(scenario)


def test_none_are_made_while_runs_are_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait until no run is under way, or until the last one's start is long ago."""
    asked: list[bool] = []
    is_busy = True

    def ask() -> bool:
        asked.append(is_busy)
        return is_busy

    async def scenario(_: Spares) -> None:
        nonlocal is_busy
        made = Spares(ask)
        try:
            starter = Starter(made, tmp_path)
            monkeypatch.setattr(spares, "_BUSY_S", 3600)
            for _number in range(2):
                await reaped(starter.start(program(tmp_path, "pass"))[0])
            await until(lambda: len(asked) >= 3, "some looks")
            assert count(made) == 0
            is_busy = False
            await until(lambda: count(made) == spares._SPARES, "the spares, as nothing runs")
            is_busy = True
            await reaped(starter.start(program(tmp_path, "pass"))[0])
            monkeypatch.setattr(spares, "_BUSY_S", 0)
            await until(lambda: count(made) == spares._SPARES, "the spares, after a while")
        finally:
            made.close()

    running(scenario)


def test_few_are_kept(tmp_path: Path) -> None:
    """A kind seen once gets no spares; of many kinds the last two keep theirs; each run's own variables make no kind."""
    argv = program(tmp_path, "pass")

    async def scenario(made: Spares) -> None:
        starter = Starter(made, tmp_path)
        for number in range(20):
            pid, _ = starter.start(argv, KIND=str(number))
            assert await reaped(pid) == 0
        assert not made._ready
        for number in (1, 2, 3):
            await starter_twice(starter, argv, str(number))
        await until(lambda: count(made) == 2 * spares._SPARES, "the spares")
        assert [dict(kind.env)["KIND"] for kind in made._ready] == ["2", "3"]
        pids = [spare.pid for ready in made._ready.values() for spare in ready]
        made.close()
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)

    running(scenario)


async def starter_twice(starter: Starter, argv: list[str], kind: str) -> None:
    for number in range(2):
        pid, _ = starter.start(argv, KIND=kind, AIP_MODEL_DIR=f"gs://bucket/{number}")
        assert await reaped(pid) == 0
