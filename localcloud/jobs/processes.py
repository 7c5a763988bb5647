"""Local processes that outlive the service: started at most once, found again by pid, their exit code kept in a file.

How "at most once" is kept, whoever is killed when (`run` is a directory that belongs to one attempt of one job):

1. The service records its intent, then starts a tiny `sh` wrapper in a session of its own.
2. The wrapper first *claims* the run: it creates `run/claim` exclusively and writes its pid there. Only the one that
   made the file goes on, so a wrapper started by a service that was killed, and a second one started by the next
   service, cannot both run the job.
3. When the job ends, the wrapper writes `run/exit`: the exit code and a newline in one write. A file without the
   newline does not count, which makes the write atomic for readers without a rename.

A pid alone may have been given to another process meanwhile; the wrapper's arguments carry the run's directory, which
no other process has, so pid and arguments together identify it (`/proc`, elsewhere `ps`).
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

CLAIM_LOST = 125  # the wrapper's exit code when another wrapper holds the claim
TOKEN_VARIABLE = "LOCALCLOUD_RUN"  # in the environment of every process of a run: strays are found by it  # noqa: S105
_SHELL = "/bin/sh"
# TERM reaches the whole group; the trap (not "ignore", which the job would inherit) lets the wrapper live to write.
_WRAPPER = """\
trap : TERM INT HUP
run=$1
cd "$2" || exit 126
unset OLDPWD
shift 2
set -C
{ echo $$ >"$run/claim"; } 2>/dev/null || exit 125
set +C
"$@"
code=$?
echo $code >"$run/exit"
exit $code
"""
_CLAIM_WAIT_S = 1.0  # a claim is signed microseconds after it is made; past this its writer was killed in between
_CLAIM_POLL_S = 0.01
_POLL_S = 0.05  # only where the system has no pidfd
# Python ignores SIGPIPE and SIGXFSZ, a shell's background job SIGINT: a job starts with the system's defaults.
DEFAULT_SIGNALS = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


def start(run: Path, *, argv: Sequence[str], env: Mapping[str, str], directory: Path, log: Path, token: str) -> int:
    """Start a run's wrapper and return its pid, which is also its process group and session.

    Standard output and error are appended to `log` directly: the job does not need the service to be alive.

    Raises:
        OSError, ValueError: the system refuses the arguments (too long, a NUL inside).
    """
    (run / "tmp").mkdir(parents=True, exist_ok=True)
    wrapper = [_SHELL, "-c", _WRAPPER, "job", str(run), str(directory), *argv]
    child_env = {**env, "TMPDIR": str(run / "tmp"), TOKEN_VARIABLE: token}
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    return os.posix_spawn(
        _SHELL, wrapper, child_env, file_actions=actions, setsid=True, setsigmask=[], setsigdef=DEFAULT_SIGNALS
    )


def exit_code(run: Path) -> int | None:
    """Return the exit code the wrapper wrote, None while there is none (or it was cut off in the middle)."""
    try:
        text = (run / "exit").read_text(encoding="ascii")
    except FileNotFoundError:
        return None
    return int(text) if text.endswith("\n") else None


def claimant(run: Path) -> int | None:
    """Return the pid that claimed the run: None when nobody has, 0 when the claim does not say (yet)."""
    try:
        text = (run / "claim").read_text(encoding="ascii")
    except FileNotFoundError:
        return None
    return int(text) if text.endswith("\n") else 0


async def settled_claimant(run: Path) -> int | None:
    """As `claimant`, but give a claim just made a moment to say whose it is."""
    deadline = time.monotonic() + _CLAIM_WAIT_S
    while True:
        pid = claimant(run)
        if pid != 0 or time.monotonic() > deadline:
            return pid
        await asyncio.sleep(_CLAIM_POLL_S)


def void(run: Path) -> bool:
    """Claim the run for nobody, so that no wrapper still on its way can start it. False when one already has."""
    run.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(run / "claim", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    os.close(descriptor)
    return True


def is_alive(pid: int, run: Path) -> bool:
    """Say whether this pid is (still) the wrapper of this run; a zombie counts as dead."""
    if pid <= 0:
        return False
    proc = Path("/proc") / str(pid)
    if not proc.parent.joinpath("self").exists():
        return str(run) in _ps_command(pid)
    try:
        if proc.joinpath("stat").read_bytes().rpartition(b")")[2].split()[0] == b"Z":
            return False
        return os.fsencode(run) in proc.joinpath("cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return False


def signal_group(pid: int, number: signal.Signals) -> None:
    """Signal every process of a run's group; no error when there is none left."""
    if pid <= 1:  # 0 would be our own group
        return
    # macOS answers "not permitted" for a group of zombies.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def kill_strays(*tokens: str) -> int:
    """Kill every process that still carries one of these tokens, wherever it moved (own session, own group); say how many.

    Reads /proc; where there is none, killing the group was all that could be done. Slow enough for a thread.
    """
    needles = {f"{TOKEN_VARIABLE}={token}".encode() for token in tokens}
    killed = 0
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if not needles.isdisjoint((entry / "environ").read_bytes().split(b"\0")):
                os.kill(int(entry.name), signal.SIGKILL)
                killed += 1
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return killed


def reap(pid: int) -> int | None:
    """Collect our own dead child: its exit code, negative for a signal. None when it lives or is not our child."""
    try:
        done, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if done else None


class Watch:
    """Calls back once when a process ends, whoever its parent is: by pidfd, elsewhere by polling.

    Our own child (`is_child`) keeps its pid until we reap it, so it needs no second look. That look would even be
    wrong: for a moment after it was started, a living child has no arguments to be recognised by.
    """

    def __init__(self, pid: int, run: Path, callback: Callable[[], None], *, is_child: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._is_done = False
        self._is_child = is_child
        self._pid, self._run, self._callback = pid, run, callback
        self._fd = -1
        self._timer: asyncio.Handle | None = None
        if not (hasattr(os, "pidfd_open") and self._open()):
            self._poll()

    def close(self) -> None:
        """Stop watching."""
        self._is_done = True
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _open(self) -> bool:
        try:
            self._fd = os.pidfd_open(self._pid)
        except ProcessLookupError:
            self._timer = self._loop.call_soon(self._fire)
            return True
        except OSError:  # an older kernel, or no descriptor left
            return False
        self._loop.add_reader(self._fd, self._fire)
        if not self._lives():  # it ended, and its pid may be another's by now
            self._timer = self._loop.call_soon(self._fire)
        return True

    def _poll(self) -> None:
        if self._lives():
            self._timer = self._loop.call_later(_POLL_S, self._poll)
        else:
            self._fire()

    def _lives(self) -> bool:
        if not (self._is_child and hasattr(os, "waitid")):
            return is_alive(self._pid, self._run)
        return os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def _fire(self) -> None:
        if self._is_done:
            return
        self.close()
        self._callback()


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on at this moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _ps_command(pid: int) -> str:
    found = subprocess.run(
        ["/bin/ps", "-ww", "-o", "stat=,command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return "" if found.stdout.startswith("Z") else found.stdout
