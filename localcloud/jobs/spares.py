"""Starts the processes of runs: from a spare one that is already up where there is one, else as `processes.start` does.

An interpreter takes 5 ms to come up, 20 with packages that hook into its start, and a chain of short stages waits for each.
So a few stand ready (`spare_process.py`): once two runs have come with the same interpreter, flags and environment, spares
of that kind are kept, as many as a chain has stages. They are made in quiet moments, one after another, so that they do not
compete with what they are to speed up; a burst that uses them up starts its processes the ordinary way.

At most once holds as before: a spare claims the run as a wrapper does, and until then it is nobody's process.
"""

import asyncio
import logging
import os
import signal
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from localcloud.jobs import processes

# Packages may look at the environment when the interpreter starts: it belongs to the kind, but not what is each run's own.
_OWN_TO_A_RUN = ("AIP_", "CLOUD_ML_", "CLUSTER_SPEC", "TF_CONFIG", "TMPDIR")
_FLAGS = frozenset({"-B", "-E", "-I", "-O", "-OO", "-P", "-S", "-s", "-u"})
_ISOLATED = frozenset({"-I", "-P"})  # a program's own folder is not looked at for imports
_PROGRAM = Path(__file__).with_name("spare_process.py")
_SPARES = 3  # the stages of a chain
_KINDS = 2  # the images of one table differ in little
_REMEMBERED = 16
_QUIET_S, _BUSY_S = 0.04, 1.0
_NEXT_S = 0.012
# Room for what a run shows in /proc; one that needs more is started the ordinary way.
_ARGUMENTS_BYTES, _TOKEN_BYTES = 4096, 160
_ORDER_BYTES = 32 * 1024  # goes into an empty pipe at once
_ORDER_FD = 3

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Kind:
    interpreter: tuple[str, ...]  # with its flags
    env: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, argv: Sequence[str], env: Mapping[str, str]) -> "_Kind | None":
        """The kind of a run; None for one that no spare can become."""
        if argv[0] != sys.executable:
            return None
        program = next((index for index, part in enumerate(argv) if index and part not in _FLAGS), len(argv))
        is_module = list(argv[program : program + 1]) == ["-m"] and program + 1 < len(argv)
        if not (is_module or "".join(argv[program : program + 1]).endswith((".py", ".pyc"))):
            return None
        own = {name: value for name, value in env.items() if not name.startswith(_OWN_TO_A_RUN)}
        return cls(tuple(argv[:program]), tuple(sorted(own.items())))


@dataclass(frozen=True, slots=True)
class _Spare:
    pid: int
    order_fd: int


class Spares:
    """The spare processes of one jobs service. Used from the event loop's thread only."""

    def __init__(self, is_busy: Callable[[], bool], count: int = _SPARES) -> None:
        """`is_busy`: whether runs are under way, which then have the processors for themselves for a while."""
        self._is_busy = is_busy
        self._started_s = 0.0
        self._count = count if sys.platform == "linux" else 0  # what /proc shows can be changed only there
        self._ready: OrderedDict[_Kind, list[_Spare]] = OrderedDict()  # what was asked for last comes last
        self._seen: OrderedDict[_Kind, None] = OrderedDict()
        self._refused: set[_Kind] = set()
        self._timer: asyncio.TimerHandle | None = None

    def start(
        self, run: Path, *, argv: Sequence[str], env: Mapping[str, str], directory: Path, log: Path, token: str
    ) -> int:
        """As `processes.start`, which it falls back to."""
        kind = _Kind.of(argv, env) if self._count else None
        if kind is not None and kind not in self._refused:
            self._expect(kind)
            order = (
                _order(run, argv, len(kind.interpreter), env, directory, log, token) if self._ready.get(kind) else None
            )
            if order:  # what the process could not make is refused now, before a spare is taken for it
                (run / "tmp").mkdir(parents=True, exist_ok=True)
                os.close(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
            while order and (spare := self._take(kind)):
                if _hand_over(spare, order):
                    return spare.pid
        return processes.start(run, argv=argv, env=env, directory=directory, log=log, token=token)

    def close(self) -> None:
        """End the spares that got no run."""
        self._count = 0
        if self._timer is not None:
            self._timer.cancel()
        while self._ready:
            self._drop(next(iter(self._ready)))

    def _expect(self, kind: _Kind) -> None:
        """Have spares of this kind from its second run on, but not now: somebody waits for a process."""
        if kind in self._seen and kind not in self._ready:
            self._ready[kind] = []
        if kind in self._ready:
            self._ready.move_to_end(kind)
        self._seen[kind] = None
        self._seen.move_to_end(kind)
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        if len(self._ready) > _KINDS:
            self._drop(next(iter(self._ready)))
        self._started_s = time.monotonic()
        self._fill_later(_QUIET_S)

    def _fill_later(self, delay_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._fill)

    def _fill(self) -> None:
        """Make one spare, and come back while more are wanted."""
        self._timer = None
        if self._is_busy() and time.monotonic() < self._started_s + _BUSY_S:
            self._fill_later(_QUIET_S)
            return
        for kind, spares in reversed(self._ready.items()):
            if len(spares) < self._count and all(_lives(spare) for spare in spares):
                try:
                    spares.append(_make(kind))
                except OSError:
                    log.warning("cannot make a spare process", extra={"action": "spare_failed"}, exc_info=True)
                    return
                self._fill_later(_NEXT_S)
                return

    def _take(self, kind: _Kind) -> _Spare | None:
        spares = self._ready.get(kind)
        if not spares:
            return None
        spare = spares.pop(0)  # the one that has had most time to come up
        if _lives(spare):
            return spare
        if _end(spare) > 0:  # by itself, as all of its kind would: no such interpreter, or /proc cannot be changed
            log.warning("no spare processes of this kind", extra={"action": "spares_refused", "argv": kind.interpreter})
            self._refused.add(kind)
            self._drop(kind)
        return self._take(kind)

    def _drop(self, kind: _Kind) -> None:
        for spare in self._ready.pop(kind):
            _end(spare)


def _make(kind: _Kind) -> _Spare:
    read_fd, write_fd = os.pipe()
    try:
        os.set_blocking(write_fd, False)
        argv = [*kind.interpreter, str(_PROGRAM), " " * _ARGUMENTS_BYTES]
        env = {**dict(kind.env), processes.TOKEN_VARIABLE: "-" * _TOKEN_BYTES}
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_DUP2, 1, 2),
            (os.POSIX_SPAWN_DUP2, read_fd, _ORDER_FD),
        ]
        pid = os.posix_spawn(
            argv[0], argv, env, file_actions=actions, setsid=True, setsigmask=[], setsigdef=processes.DEFAULT_SIGNALS
        )
    except BaseException:
        os.close(write_fd)
        raise
    finally:
        os.close(read_fd)
    return _Spare(pid, write_fd)


def _lives(spare: _Spare) -> bool:
    return os.waitid(os.P_PID, spare.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def _end(spare: _Spare) -> int:
    """End it if it lives; its exit code, negative for a signal."""
    os.close(spare.order_fd)
    processes.signal_group(spare.pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(spare.pid, 0)[1])


def _hand_over(spare: _Spare, order: bytes) -> bool:
    try:
        whole = os.write(spare.order_fd, order) == len(order)
    except OSError:  # it has just ended
        whole = False
    if whole:
        os.close(spare.order_fd)
    else:
        _end(spare)
    return whole


def _order(
    run: Path, argv: Sequence[str], program: int, env: Mapping[str, str], directory: Path, log: Path, token: str
) -> bytes | None:
    """What `spare_process.py` reads; None where it has no room for it, or where a text cannot be passed on at all."""
    env = {**env, "PWD": str(directory), "TMPDIR": str(run / "tmp"), processes.TOKEN_VARIABLE: token}
    imports_from = ""
    if not _ISOLATED.intersection(argv[:program]):
        source = os.path.realpath(directory if argv[program] == "-m" else directory / argv[program])
        imports_from = source if argv[program] == "-m" else os.path.dirname(source)
    variables = [f"{name}={value}" for name, value in env.items()]
    fields = [str(run), str(directory), str(log), token, imports_from, str(program), *argv]
    body = "\0".join((str(len(variables)), *variables, *fields)).encode("utf-8", "surrogateescape")
    shown = sum(len(os.fsencode(part)) + 1 for part in ("job", str(run), str(directory), *argv))
    is_fitting = len(body) <= _ORDER_BYTES and shown <= _ARGUMENTS_BYTES and len(token) < _TOKEN_BYTES
    if not is_fitting or body.count(b"\0") != len(fields) + len(variables):
        return None
    return b"%08d" % len(body) + body
