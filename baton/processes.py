"""Keeps a set of child processes running: starts them, reads what they say, starts them again when they die, ends them.

Each child stands in a process group of its own, so a Ctrl-C at the terminal reaches only us, and we end the children in
order. Each hangs on a leash (`baton.leash`): if we are killed, it ends too.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from baton import leash

LineSink = Callable[[str, str], None]
"""Takes a process's name and one line of what it wrote; called from several threads."""

STOP_GRACE_S = 25.0  # a worker stops within 20 s even while its services are silent
_LEASH_GRACE_S = 10.0
_BACKOFF_FIRST_S = 0.5
_BACKOFF_MAX_S = 15.0
_LIVED_WELL_S = 20.0  # who lived as long as this dies of something new: the backoff begins anew
_TAIL_LINES = 60
OURSELVES = "baton"


@dataclass(frozen=True, slots=True)
class Command:
    """What to run, under which name, with which environment, in which folder (None = ours)."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    directory: Path | None = None


class Child:
    """One command, kept running until it is told to stop. Its own thread starts it and waits for it."""

    def __init__(self, command: Command, sink: LineSink, inherit: Sequence[int], backoff_first_s: float) -> None:
        self.command = command
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self.quick_deaths = 0
        self._sink = sink
        self._inherit = tuple(inherit)
        self._backoff_first_s = backoff_first_s
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()  # guards _process and the decision to start
        self._stopping = threading.Event()
        self._stopped = threading.Event()
        # The write end stays open with us, and only with us, for as long as we live.
        self._read_end, self._write_end = os.pipe()
        self._thread = threading.Thread(target=self._keep, name=f"keep-{command.name}", daemon=True)

    @property
    def name(self) -> str:
        return self.command.name

    @property
    def pid(self) -> int:
        """The process group's id, 0 while nothing runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else 0

    @property
    def has_stopped(self) -> bool:
        return self._stopped.is_set()

    def start(self) -> None:
        """Start it, and keep it running from now on."""
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Ask for a clean end; it will not be started again."""
        self._stopping.set()
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it now."""
        self._stopping.set()
        self._signal(signal.SIGKILL)

    def wait(self, timeout_s: float) -> bool:
        """Wait until it has stopped for good; return whether it has."""
        return self._stopped.wait(timeout_s)

    def _signal(self, number: int) -> None:
        with self._lock:
            if self._process is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, number)

    def _keep(self) -> None:
        wait_s = self._backoff_first_s
        while (process := self._spawn()) is not None:
            began = time.monotonic()
            reader = threading.Thread(target=self._read, args=(process,), daemon=True)
            reader.start()
            code = process.wait()
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # whatever of the group outlived it
            reader.join(timeout=1.0)
            if self._stopping.is_set():
                break
            lived_s = time.monotonic() - began
            if lived_s >= _LIVED_WELL_S:
                wait_s, self.quick_deaths = self._backoff_first_s, 0
            self.quick_deaths += 1
            self._say("process-died", "WARNING", exit_code=code, lived_s=round(lived_s, 1), again_in_s=wait_s)
            self._stopping.wait(wait_s)
            wait_s = min(wait_s * 2, _BACKOFF_MAX_S)
        os.close(self._read_end)
        os.close(self._write_end)
        self._stopped.set()

    def _spawn(self) -> "subprocess.Popen[bytes] | None":
        """Start the process behind its leash; None once we are stopping."""
        argv = [
            sys.executable,
            "-S",
            leash.__file__,
            str(self._read_end),
            str(_LEASH_GRACE_S),
            "--",
            *self.command.argv,
        ]
        with self._lock:
            if self._stopping.is_set():
                return None
            self._process = subprocess.Popen(
                argv,
                env=dict(self.command.environment),
                cwd=self.command.directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(self._read_end, *self._inherit),
            )
        self._say("process-started", "INFO", pid=self._process.pid)
        return self._process

    def _read(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None  # asked for above
        with process.stdout as output:
            for raw in output:
                line = raw.decode("utf-8", errors="replace").rstrip("\r\n")
                self.tail.append(line)
                self._sink(self.name, line)

    def _say(self, action: str, severity: str, **fields: object) -> None:
        self._sink(OURSELVES, log_entry(action, severity, process=self.name, **fields))


class Supervisor:
    """Children that are started in one order and stopped in the opposite one.

    Args:
        sink: where every line of theirs goes.
        inherit: file descriptors that every child keeps open, such as a lock that must outlive us.
    """

    def __init__(self, sink: LineSink, inherit: Sequence[int] = (), backoff_first_s: float = _BACKOFF_FIRST_S) -> None:
        self._sink = sink
        self._inherit = inherit
        self._backoff_first_s = backoff_first_s
        self._waves: list[list[Child]] = []

    @property
    def children(self) -> list[Child]:
        return [child for wave in self._waves for child in wave]

    def start(self, commands: Iterable[Command]) -> list[Child]:
        """Start commands that belong together: they are stopped together, before those started earlier."""
        wave = [Child(command, self._sink, self._inherit, self._backoff_first_s) for command in commands]
        self._waves.append(wave)
        for child in wave:
            child.start()
        return wave

    def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Stop the children, the latest first; kill those that have not ended after `grace_s`."""
        while self._waves:
            wave = self._waves[-1]
            for child in wave:
                child.ask_to_stop()
            deadline = time.monotonic() + grace_s
            for child in wave:
                if not child.wait(max(0.0, deadline - time.monotonic())):
                    child.kill()
                    child.wait(grace_s)
            self._waves.pop()

    def kill(self) -> None:
        """End every child now."""
        for child in reversed(self.children):
            child.kill()
        for child in self.children:
            child.wait(STOP_GRACE_S)
        self._waves.clear()


def log_entry(action: str, severity: str = "INFO", **fields: object) -> str:
    """Return a log line of our own, in the form that the workers write."""
    body = {"time": datetime.now(UTC).isoformat(), "severity": severity, "action": action}
    return json.dumps({**body, **fields}, ensure_ascii=False)


def python(*arguments: str | Path) -> list[str]:
    """Return the argv that runs a module or file with the interpreter that runs us."""
    return [sys.executable, *map(str, arguments)]
