"""What a job's body gets, and what it hands back."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from localcloud.bigquery.engine import Engine
from localcloud.bigquery.errors import Stopped
from localcloud.bigquery.gcs import Storage
from localcloud.bigquery.names import TableRef, new_physical
from localcloud.bigquery.resources import LOCATION, Sizes

_INTERRUPT_S = 0.02

log = logging.getLogger(__name__)

# What changes the database runs in the job's last transaction, and answers statistics that are known only then.
Commit = Callable[[Any], dict[str, Any]]


@dataclass(slots=True)
class Outcome:
    """A finished body: statistics, the commit that makes its effect visible, and errors that did not stop it."""

    statistics: dict[str, Any] = field(default_factory=dict)
    commit: Commit | None = None
    warnings: list[dict[str, str]] = field(default_factory=list)
    # Where the rows of a query are, and how many.
    row_count: int | None = None
    result: TableRef | None = None


class Task:
    """One run of one job. Its body works on `read` transactions and staged tables; nobody sees them before the commit."""

    def __init__(
        self, engine: Engine, storage: Storage, sizes: Sizes, doc: dict[str, Any], internal: dict[str, Any], now_ms: int
    ) -> None:
        self.engine = engine
        self.storage = storage
        self.sizes = sizes
        self.doc = doc
        self.internal = internal
        self.now_ms = now_ms
        self.staged: list[str] = []
        self.stop_reason = ""
        self._cancelled = threading.Event()
        self._cursor: Any = None
        self._released = threading.Event()

    @property
    def project(self) -> str:
        """The project that runs and pays."""
        return str(self.doc["jobReference"]["projectId"])

    @property
    def job_id(self) -> str:
        """The job's id."""
        return str(self.doc["jobReference"]["jobId"])

    @property
    def location(self) -> str:
        """The job's location."""
        return str(self.doc["jobReference"].get("location") or LOCATION)

    def configuration(self, kind: str) -> dict[str, Any]:
        """The part of the job's configuration that its kind owns."""
        found: dict[str, Any] = self.doc["configuration"][kind]
        return found

    @contextlib.contextmanager
    def read(self) -> Iterator[Any]:
        """A transaction that `cancel` can interrupt."""
        self.check()
        try:
            with self.engine.read(self.hold) as cursor:
                yield cursor
        finally:
            self._cursor = None
            self._released.set()

    def stage(self) -> str:
        """A name for a table that becomes visible with the commit, or is dropped."""
        name = new_physical()
        self.staged.append(name)
        return name

    def cancel(self, reason: str = "") -> None:
        """Ask the body to end; safe from any thread. A commit that began may still go through, as in the cloud."""
        self.stop_reason = reason
        self._cancelled.set()
        threading.Thread(target=self._interrupt, name=f"cancel:{self.job_id}", daemon=True).start()

    def check(self) -> None:
        """Raise Stopped when the job was cancelled."""
        if self._cancelled.is_set():
            raise Stopped("Job execution was cancelled: User requested cancellation")

    def hold(self, cursor: Any) -> None:
        """Let `cancel` interrupt this cursor."""
        self._released.clear()
        self._cursor = cursor
        # A cancel that came between the check and here found no cursor to interrupt.
        self.check()

    def _interrupt(self) -> None:
        import duckdb  # loaded long ago where there is a cursor; an idle service never pays for it

        # DuckDB forgets an interrupt that falls between two statements, so it is said until the cursor is let go.
        while (cursor := self._cursor) is not None:
            try:
                cursor.interrupt()
            except duckdb.ConnectionException:
                log.debug("the cursor was closed before its interrupt", exc_info=True)
            self._released.wait(_INTERRUPT_S)
