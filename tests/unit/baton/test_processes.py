"""Children of `baton up`: started, started again, ended; whatever happens to us, nothing is left running."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from baton.errors import InUse
from baton.locks import lock_children, lock_up
from baton.processes import Command, Supervisor, python
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[3]
PATIENT = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)
PARENT = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); \
print('up', flush=True); time.sleep(600)"


class Lines:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str]] = []

    def __call__(self, process: str, line: str) -> None:
        self.all.append((process, line))

    def of(self, process: str) -> list[str]:
        return [line for name, line in self.all if name == process]

    def count(self, action: str) -> int:
        return sum(f'"{action}"' in line for line in self.of("baton"))


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def supervisor(lines: Lines) -> Iterator[Supervisor]:
    made = Supervisor(lines, backoff_first_s=0.01)
    yield made
    made.kill()


def command(name: str, code: str) -> Command:
    return Command(name, python("-S", "-c", code), os.environ)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def group(pgid: int) -> list[int]:
    """Return the living processes of a group."""
    found = []
    for process in psutil.process_iter(["pid"]):
        try:
            if os.getpgid(process.pid) == pgid and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def test_every_line_of_a_child_reaches_the_sink(supervisor: Supervisor, lines: Lines) -> None:
    """Both streams, in order, with bytes that are no text replaced."""
    code = "import sys; sys.stdout.buffer.write(b'one\\n\\xff two\\n'); sys.stdout.flush(); print('three', file=sys.stderr)"
    supervisor.start([command("talker", code)])
    wait_until(lambda: len(lines.of("talker")) >= 3, what="three lines")
    assert lines.of("talker")[:3] == ["one", "� two", "three"]


def test_a_child_that_dies_is_started_again(supervisor: Supervisor, lines: Lines) -> None:
    """After kill -9 there is a new process, and the death is on record with its code."""
    (child,) = supervisor.start([command("patient", PATIENT)])
    wait_until(lambda: lines.of("patient"), what="the first line")
    first = child.pid
    os.killpg(first, signal.SIGKILL)
    wait_until(lambda: len(lines.of("patient")) == 2, what="a second start")
    assert child.pid not in (0, first)
    assert lines.count("process-died") == 1
    assert child.quick_deaths == 1


def test_a_child_that_is_killed_itself_is_started_again(supervisor: Supervisor, lines: Lines) -> None:
    """kill -9 of the worker's own process, behind its leash, is noticed as well."""
    (child,) = supervisor.start([command("patient", PATIENT)])
    wait_until(lambda: lines.of("patient"), what="the first line")
    (inner,) = psutil.Process(child.pid).children()
    inner.kill()
    wait_until(lambda: len(lines.of("patient")) == 2, what="a second start")
    assert '"exit_code": 137' in "".join(lines.of("baton"))


def test_the_wait_before_a_restart_grows(lines: Lines) -> None:
    """A child that dies at once does not take the processor."""
    supervisor = Supervisor(lines, backoff_first_s=0.01)
    supervisor.start([command("quick", "raise SystemExit(3)")])
    wait_until(lambda: lines.count("process-died") >= 4, what="four deaths")
    supervisor.kill()
    waits = [line.split('"again_in_s": ')[1].rstrip("}") for line in lines.of("baton") if "again_in_s" in line]
    assert [float(wait) for wait in waits[:4]] == [0.01, 0.02, 0.04, 0.08]


def test_stop_ends_the_latest_first_and_leaves_nothing(supervisor: Supervisor, lines: Lines) -> None:
    """The cloud, started first, is told to end only when the workers have."""
    said = "import signal, sys, time\n" + textwrap.dedent("""
        def leave(*_):
            print('ended', flush=True)
            sys.exit(0)
        signal.signal(signal.SIGTERM, leave)
        print('up', flush=True)
        time.sleep(600)
    """)
    (cloud,) = supervisor.start([command("cloud", said)])
    workers = supervisor.start([command("train", said), command("deploy", said)])
    wait_until(lambda: sum(line == "up" for _, line in lines.all) == 3, what="all three up")
    groups = [child.pid for child in [cloud, *workers]]
    supervisor.stop(grace_s=10)
    ended = [name for name, line in lines.all if line == "ended"]
    assert ended[-1] == "cloud"
    assert sorted(ended) == ["cloud", "deploy", "train"]
    assert [group(pid) for pid in groups] == [[], [], []]


def test_a_child_that_will_not_end_is_killed(supervisor: Supervisor, lines: Lines) -> None:
    """The grace is kept, then the group is killed."""
    (child,) = supervisor.start([command("stubborn", STUBBORN)])
    wait_until(lambda: lines.of("stubborn"), what="the first line")
    pid = child.pid
    supervisor.stop(grace_s=0.2)
    assert group(pid) == []
    assert child.has_stopped


def test_what_a_child_started_goes_with_it(supervisor: Supervisor, lines: Lines) -> None:
    """A grandchild in the same group does not outlive a stop."""
    (child,) = supervisor.start([command("parent", PARENT)])
    wait_until(lambda: lines.of("parent"), what="the first line")
    pid = child.pid
    assert len(group(pid)) == 3  # the leash, the child, the grandchild
    supervisor.stop(grace_s=10)
    assert group(pid) == []


def test_a_stop_while_waiting_to_restart_returns_at_once(lines: Lines) -> None:
    """Nobody waits for a backoff that will not be used."""
    supervisor = Supervisor(lines, backoff_first_s=600)
    supervisor.start([command("quick", "raise SystemExit(3)")])
    wait_until(lambda: lines.count("process-died"), what="its death")
    began = time.monotonic()
    supervisor.stop()
    assert time.monotonic() - began < 5


OWNER = """
import os, sys, time
from pathlib import Path
from baton.locks import lock_children, lock_up
from baton.processes import Command, Supervisor, python
home = Path(sys.argv[1])
up, children = lock_up(home), lock_children(home)
supervisor = Supervisor(lambda name, line: print(line, flush=True), inherit=(children.fileno(),))
supervisor.start([Command("child", python("-S", "-c", sys.argv[2]), os.environ)])
time.sleep(600)
"""


def test_kill_9_of_the_owner_ends_its_children(tmp_path: Path) -> None:
    """A killed `baton up` cannot clean up; its children notice, and the next one waits for their end."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path), PARENT], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    wait_until(lambda: owner.stdout.readline().strip() == "up", what="the child's line")  # type: ignore[union-attr]
    below = psutil.Process(owner.pid).children(recursive=True)
    assert len(below) == 3
    with pytest.raises(InUse, match=f"process {owner.pid}"):
        lock_up(tmp_path)
    owner.kill()
    owner.wait()
    owner.stdout.close()
    with lock_up(tmp_path), lock_children(tmp_path, timeout_s=15):
        wait_until(lambda: not any(alive(process.pid) for process in below), what="the end of all children")


def test_children_that_do_not_end_are_reported(tmp_path: Path) -> None:
    """The next `baton up` says so instead of waiting for ever."""
    with lock_children(tmp_path), pytest.raises(InUse, match="earlier `baton up`"):
        lock_children(tmp_path, timeout_s=0.05)
