"""The house on this machine: the local cloud and the workers, as children of one `baton up` or `baton demo`."""

import os
import signal
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO

from baton.errors import BatonError
from baton.locks import lock_children, lock_up
from baton.logbook import LogBook
from baton.ports import as_option, moved_ports
from baton.processes import OURSELVES, Child, Command, Supervisor, log_entry, python
from baton.profile import ENDPOINTS, Profile, find_root, local_profile, read_endpoints

CLOUD = "cloud"
WORKERS = ("preprocess", "train", "deploy")
LOGS = "logs"
IMAGES_VARIABLE = "BATON_IMAGES"
START_TIMEOUT_S = 60.0
_TOO_OFTEN = 5
_POLL_S = 0.02
_TAIL_LINES = 15


class House:
    """Starts the local cloud on entering, the workers when told to, and ends everything on leaving.

    Args:
        home: the data directory, `.baton`.
        book: where the processes' lines go.
        ports: as `python -m localcloud --ports` takes them; "" lets it choose.
    """

    def __init__(self, home: Path, book: LogBook, ports: str = "") -> None:
        self.home = home
        self._book = book
        self._ports = ports
        self._locks: list[IO[str]] = []
        self._supervisor: Supervisor | None = None
        self._profile: Profile | None = None

    @property
    def profile(self) -> Profile:
        assert self._profile is not None  # set on entering
        return self._profile

    def __enter__(self) -> "House":
        """Start the local cloud and return when it answers.

        Raises:
            InUse: another `baton up` has this data directory.
            BatonError: the local cloud does not start; with its last words.
        """
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            self._locks.append(lock_up(self.home))
            children = lock_children(self.home)
            self._locks.append(children)
            self._supervisor = Supervisor(self._book, inherit=(children.fileno(),))
            self._start_cloud(self._supervisor)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the workers, then the local cloud; a second Ctrl-C kills them."""
        try:
            if self._supervisor is not None:
                self._supervisor.stop()
        except KeyboardInterrupt:
            assert self._supervisor is not None  # it was, above
            self._supervisor.kill()
        finally:
            self._supervisor = None
            for lock in reversed(self._locks):
                lock.close()
            self._locks.clear()

    def start_workers(self) -> None:
        """Start the three workers."""
        assert self._supervisor is not None  # set on entering
        environment = self.profile.environment(os.environ)
        commands = [Command(name, python("-m", f"workers.{name}"), environment, _directory()) for name in WORKERS]
        self._supervisor.start(commands)

    def check(self) -> None:
        """Say if a process cannot be kept running.

        Raises:
            BatonError: it has died again and again; with its last words.
        """
        for child in self._supervisor.children if self._supervisor is not None else []:
            if child.quick_deaths >= _TOO_OFTEN:
                raise BatonError(
                    f"{child.name} has died {child.quick_deaths} times in a row:\n{self._last_words(child)}",
                    f"its whole log is {self._book.path(child.name)}",
                )

    def _start_cloud(self, supervisor: Supervisor) -> None:
        endpoints = self.home / ENDPOINTS
        before = endpoints.stat().st_mtime_ns if endpoints.exists() else 0
        argv = python("-m", "localcloud", "--data-dir", endpoints.parent.resolve(), "--images", images_file(self.home))
        moved = moved_ports(self.home)
        for name, (old, new) in moved.items():
            self._book(OURSELVES, log_entry("port-moved", "WARNING", part=name, taken=old, port=new))
        if ports := as_option(self._ports, moved):
            argv += ["--ports", ports]
        (child,) = supervisor.start([Command(CLOUD, argv, dict(os.environ), _directory())])
        self._profile = self._wait_for_cloud(child, endpoints, before)

    def _wait_for_cloud(self, child: Child, endpoints: Path, before: int) -> Profile:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if child.quick_deaths:
                raise BatonError(
                    f"the local cloud does not start:\n{self._last_words(child)}",
                    f"its whole log is {self._book.path(CLOUD)}",
                )
            # The file may be an earlier start's, and its ports somebody else's by now: only one written since counts.
            if endpoints.exists() and endpoints.stat().st_mtime_ns != before:
                profile = local_profile(os.environ, self.home, read_endpoints(endpoints))
                if not profile.silent_addresses():
                    return profile
            time.sleep(_POLL_S)
        raise BatonError(
            f"the local cloud has not answered within {START_TIMEOUT_S:g} s:\n{self._last_words(child)}",
            f"its whole log is {self._book.path(CLOUD)}",
        )

    def _last_words(self, child: Child) -> str:
        return "\n".join(f"  {line}" for line in list(child.tail)[-_TAIL_LINES:]) or "  (it wrote nothing)"


def images_file(home: Path) -> Path:
    """Return the table that says which local command stands for which container image.

    Raises:
        BatonError: there is none.
    """
    if given := os.environ.get(IMAGES_VARIABLE):
        path = Path(given)
    else:
        path = (find_root(home) or Path.cwd()) / "deploy" / "images.toml"
    if not path.is_file():
        raise BatonError(f"{path} is not there", f"run this in Baton's folder, or set {IMAGES_VARIABLE}")
    return path.resolve()


def interrupt_on_signals() -> None:
    """Have SIGTERM and a closed terminal do what Ctrl-C does: unwind, so that everything is ended in order."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _directory() -> Path:
    """Children run in Baton's source tree, so that `python -m workers.train` is found even where it is not installed."""
    return Path(__file__).resolve().parents[1]
