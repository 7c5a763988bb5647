"""What runs in a spare process cannot tell it from a process of its own."""

import json
import py_compile
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from localcloud.jobs import processes, spares
from localcloud.jobs.spares import Spares
from tests.unit.jobs.spare_starter import Starter, count, program, reaped, running, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="spare processes need Linux's /proc")

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
