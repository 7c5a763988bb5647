"""What runs in a spare process cannot tell it from a process of its own, and is started once, found and ended as one."""

import asyncio
import json
import os
import py_compile
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from localcloud.jobs import processes, spares
from localcloud.jobs.spares import Spares
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="spare processes need Linux's /proc")

_LIMIT_S = 20.0
# Says all that a program can see of how it was started, but for what differs between any two processes.
_OBSERVER = """\
import sys
loaded = sorted(set(sys.modules) - {"marshal", "_signal", "builtins"})
import json, os, signal
print("out")
print("err", file=sys.stderr)
fds = sorted(os.listdir("/proc/self/fd"), key=int)
signals = {n: str(signal.getsignal(n)) for n in sorted(signal.valid_signals()) if n not in (9, 19)}
with open("/proc/self/cmdline", "rb") as file:
    shown = file.read().rstrip(b"\\0").split(b"\\0")
names = {k: str(v) for k, v in globals().items() if k[:2] == "__" and k not in ("__loader__", "__spec__")}
with open(sys.argv[-1], "w") as file:
    json.dump({
        "argv": sys.argv, "orig_argv": sys.orig_argv, "path": sys.path, "flags": str(sys.flags), "names": names,
        "loaded": loaded, "environ": dict(os.environ), "cwd": os.getcwd(), "fds": len(fds), "signals": signals,
        "stdin": os.readlink("/proc/self/fd/0"), "umask": os.umask(0o22), "shown": [os.fsdecode(part) for part in shown],
        "main": sys.modules["__main__"].__dict__ is globals(), "loader": type(__loader__).__name__,
        "spec": __spec__ and [__spec__.name, __spec__.origin, __spec__.parent],
        "buffered": [sys.stdout.line_buffering, sys.stdout.encoding, sys.stdout.fileno(), sys.stderr.fileno()],
        "group": os.getpgid(0) == os.getsid(0) == os.getppid(), "exists": os.path.exists(os.environ["TMPDIR"]),
    }, file)
"""


def running(scenario: Callable[[Spares], Coroutine[Any, Any, None]]) -> None:
    """Run a scenario in an event loop, with spares that end with it."""

    async def run() -> None:
        made = Spares(lambda: False)
        try:
            await asyncio.wait_for(scenario(made), 3 * _LIMIT_S)
        finally:
            made.close()

    asyncio.run(run())


async def until(condition: Callable[[], Any], what: str) -> Any:
    """As `wait_until`, while the event loop runs."""
    async with asyncio.timeout(_LIMIT_S):
        while not (answer := condition()):
            await asyncio.sleep(0.005)
    assert answer, what
    return answer


async def reaped(pid: int) -> int:
    found = await until(lambda: None if (code := processes.reap(pid)) is None else [code], "the end of the process")
    return int(found[0])


def count(made: Spares) -> int:
    return sum(len(ready) for ready in made._ready.values())


class Starter:
    """Starts runs in a folder, one after another."""

    def __init__(self, made: Spares, folder: Path, env: dict[str, str] | None = None) -> None:
        self.made = made
        self.folder = folder
        self.env = {"PATH": os.environ["PATH"], "HOME": str(folder), "GREETING": "hello ✓", **(env or {})}
        self.number = 0

    def start(self, argv: list[str], **env: str) -> tuple[int, Path]:
        self.number += 1
        run = self.folder / f"run-{self.number}"
        pid = self.made.start(
            run,
            argv=[sys.executable, *argv],
            env={**self.env, **env},
            directory=self.folder,
            log=self.folder / f"log-{self.number}",
            token=f"token-{self.number}.1",
        )
        return pid, run

    async def warm(self, argv: list[str], **env: str) -> None:
        """Run twice, as a kind of run must come twice, and wait for the spares."""
        for _ in range(2):
            pid, _ = self.start(argv, **env)
            await reaped(pid)
        await until(lambda: count(self.made) == spares._SPARES, "the spares")

    def log(self) -> str:
        return (self.folder / f"log-{self.number}").read_text(encoding="utf-8")


def program(folder: Path, text: str) -> list[str]:
    (folder / "program.py").write_text(text, encoding="utf-8")
    return [str(folder / "program.py")]


def package(folder: Path, text: str) -> list[str]:
    (folder / "package").mkdir()
    (folder / "package" / "__init__.py").touch()
    (folder / "package" / "job.py").write_text(text, encoding="utf-8")
    return ["-m", "package.job"]


def compiled(folder: Path, text: str) -> list[str]:
    source = program(folder, text)[0]
    py_compile.compile(source, cfile=str(folder / "program.pyc"), doraise=True)
    return [str(folder / "program.pyc")]


def linked(folder: Path, text: str) -> list[str]:
    (folder / "real").mkdir()
    source = program(folder / "real", text)[0]
    (folder / "link.py").symlink_to(source)
    return ["link.py"]


@pytest.mark.parametrize(
    ("flags", "make"),
    [
        ([], program),
        ([], package),
        ([], linked),
        (["-u"], package),
        (["-S", "-I"], compiled),
        (["-B", "-s"], program),
        (["-P"], package),
    ],
)
def test_a_program_cannot_tell(flags: list[str], make: Callable[[Path, str], list[str]], tmp_path: Path) -> None:
    """Arguments, paths, modules, environment, descriptors, signals, output: as in a process started for it."""
    argv = [*flags, *make(tmp_path, _OBSERVER), "one two", "", "--flag="]
    environment = {} if "-P" in flags else {"PYTHONPATH": str(tmp_path / "elsewhere")}
    if "-P" in flags:
        environment = {"PYTHONPATH": str(tmp_path)}

    async def scenario(made: Spares) -> None:
        starter = Starter(made, tmp_path, environment)
        said = []
        for number in range(3):
            before = count(made)
            pid, run = starter.start([*argv, f"seen-{number}.json"], AIP_JOB=f"job {number}")
            assert count(made) == before - (number == 2), "the third run, and no other, takes a spare"
            assert await reaped(pid) == 0, starter.log()
            assert processes.exit_code(run) == 0
            assert processes.claimant(run) == pid
            text = (tmp_path / f"seen-{number}.json").read_text()
            assert json.loads(text)["environ"]["LOCALCLOUD_RUN"] == f"token-{number + 1}.1"
            text = text.replace(f"seen-{number}", "seen-N").replace(f"job {number}", "job N")
            seen = json.loads(text.replace(f"run-{number + 1}", "run-N").replace(f"token-{number + 1}", "token-N"))
            said.append((seen, starter.log()))
            if number == 1:
                await until(lambda: count(made) == spares._SPARES, "the spares")
        assert said[2][1] == said[0][1]
        cold, warm = said[0][0], said[2][0]
        differences = {
            key: (set(map(str, cold[key].items())) ^ set(map(str, warm[key].items())))
            if isinstance(cold[key], dict)
            else (cold[key], warm[key])
            for key in cold
            if cold[key] != warm[key]
        }
        assert differences == {}

    running(scenario)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("print('ends'); print(__file__, __import__('sys')._getframe().f_code.co_filename)", 0),
        ("import sys; sys.exit(3)", 3),
        ("import sys; sys.exit('no input\\n')", 1),
        ("import atexit; atexit.register(print, 'at exit'); raise ValueError('bad ✓ value')", 1),
        ("def f():\n    1 / 0\ntry:\n    f()\nexcept Exception as e:\n    raise RuntimeError('second') from e", 1),
        ("import os; print('lost'); os._exit(4)", 4),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 128 + signal.SIGKILL),
        ("import os, signal; os.kill(os.getpid(), signal.SIGINT)", 128 + signal.SIGINT),
        ("import threading; threading.Timer(0.05, print, ['from a thread']).start()", 0),
        ("this is no python", 1),
        ("import sys; sys.excepthook = lambda *e: print('hooked', e[0].__name__); raise KeyError(1)", 1),
        (
            "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import os; print(sorted(os.environ.items()))'])",
            0,
        ),
        (
            "import multiprocessing as m\ndef f(x): return x * x\n"
            "if __name__ == '__main__':\n    print(m.get_context('spawn').Pool(1).map(f, [1, 2, 3]))",
            0,
        ),
    ],
)
def test_it_ends_as_a_process_of_its_own(text: str, code: int, tmp_path: Path) -> None:
    """The exit code and every word of the output are the same, tracebacks included."""
    program(tmp_path, text)
    argv = ["program.py"]

    async def scenario(made: Spares) -> None:
        starter = Starter(made, tmp_path)
        logs = []
        for number in range(3):
            before = count(made)
            pid, run = starter.start(argv)
            assert count(made) == before - (number == 2), "the third run, and no other, takes a spare"
            assert await reaped(pid) == code, starter.log()
            assert processes.exit_code(run) == code
            logs.append(starter.log().replace(f"run-{number + 1}", "run-N").replace(f"token-{number + 1}", "token-N"))
            if number == 1:
                await until(lambda: count(made) == spares._SPARES, "the spares")
        assert logs[2] == logs[0]

    running(scenario)


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
    wait_until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in left), _LIMIT_S, "the end of the spares")
    wait_until(lambda: (tmp_path / "began").read_text() == "xxx", _LIMIT_S, "the start of the run")
    assert processes.is_alive(taken, tmp_path / "2")
    (tmp_path / "gate").touch()
    wait_until(lambda: processes.exit_code(tmp_path / "2") == 0, _LIMIT_S, "the end of the run")


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
        await until(lambda: count(made) == 1, "the spare")
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
