"""Runs one command and ends it, with everything it started, when the process that holds the other end of a pipe is gone.

`baton up` starts each of its children through this file: a killed `baton up` cannot clean up behind itself, but the
kernel closes its pipes. (A signal at the parent's death exists on Linux only, and is lost on exec of another user's
program; a pipe's end works wherever there are pipes.)

Run as `python leash.py FD GRACE_S -- COMMAND…` in a process group of its own. It imports the standard library alone, so
it is up in a few milliseconds. Exit code: the command's own, or 128 + the signal that ended it.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
from types import FrameType

_USAGE = 64  # EX_USAGE of sysexits.h
_CANNOT_RUN = 127  # as a shell says it


def main(arguments: list[str]) -> int:
    """Run the command of `arguments` until it ends or the pipe does."""
    if len(arguments) < 4 or arguments[2] != "--":
        sys.stderr.write("usage: leash.py FD GRACE_S -- COMMAND…\n")
        return _USAGE
    pipe, grace_s, command = int(arguments[0]), float(arguments[1]), arguments[3:]
    os.set_inheritable(pipe, False)  # only we watch it: a child that held it would not notice anything
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    # The whole group gets the signals that ask it to end; we stay until the command has ended. Handlers that do nothing,
    # rather than SIG_IGN, because a command would inherit that.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, _stay)
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, close_fds=False)
    except OSError as fault:
        sys.stderr.write(f"cannot run {command[0]}: {fault}\n")
        return _CANNOT_RUN
    _wait(child, pipe, woken)
    if child.poll() is None:
        _end(child, grace_s)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _wait(child: "subprocess.Popen[bytes]", pipe: int, woken: int) -> None:
    """Return when the command has ended, or when the pipe has."""
    while child.poll() is None:
        ready, _, _ = select.select([pipe, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
        if pipe in ready and not os.read(pipe, 4096):
            return


def _end(child: "subprocess.Popen[bytes]", grace_s: float) -> None:
    """Ask the group to end, and after the grace kill it, ourselves included."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(0, signal.SIGTERM)
    try:
        child.wait(timeout=grace_s)
    except subprocess.TimeoutExpired:
        os.killpg(0, signal.SIGKILL)


def _stay(number: int, frame: FrameType | None) -> None:
    return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
