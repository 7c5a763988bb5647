"""A backfill's two objects in the ledger, changed by compare-and-set."""

from datetime import datetime, timedelta
from typing import TypeVar

from baton.backfill.plan import Plan, Progress, joined
from baton.errors import InUse, NotKnown
from workers.errors import Conflict
from workers.objects import ABSENT, Objects

PREFIX = "backfills/"
STALE = timedelta(seconds=30)  # a driver that has not been heard of for so long is gone
M = TypeVar("M", Plan, Progress)


class Store:
    """The backfills of one ledger.

    Args:
        by: who drives; unique to this process.
    """

    def __init__(self, objects: Objects, by: str) -> None:
        self._objects = objects
        self._by = by

    def plan(self, backfill: str) -> Plan:
        """Return a backfill's plan.

        Raises:
            NotKnown: there is none of that id.
        """
        found = self._read(_plan_name(backfill), Plan)
        if found is None:
            known = sorted({name.split("/")[1] for name in self._objects.list(PREFIX)})
            raise NotKnown(f"backfill {backfill!r} is not in the ledger", f"it knows {', '.join(known) or 'none'}")
        return found[0]

    def keep_plan(self, wanted: Plan) -> Plan:
        """Write the plan down, or add its sources to the one that is there; return what stands there then.

        Raises:
            Refused: the one that is there is of another pipeline or has other parameters.
        """
        while True:
            found = self._read(_plan_name(wanted.id), Plan)
            plan = wanted if found is None else joined(found[0], wanted)
            if found is not None and plan == found[0]:
                return plan
            try:
                self._write(_plan_name(plan.id), plan, ABSENT if found is None else found[1])
            except Conflict:
                continue
            return plan

    def progress(self, backfill: str) -> Progress | None:
        """Return how far it is, or None before its first driver."""
        found = self._read(_progress_name(backfill), Progress)
        return None if found is None else found[0]

    def take(self, backfill: str, now: datetime, *, take_over: bool = False) -> Progress:
        """Become the one who drives it.

        Raises:
            InUse: another does; two would start twice as many runs as either was told to.
        """
        while True:
            found = self._read(_progress_name(backfill), Progress)
            before = Progress(beat=now) if found is None else found[0]
            is_driven = before.driver not in ("", self._by) and now - before.beat < STALE
            if is_driven and not take_over:
                raise InUse(
                    f"backfill {backfill} is driven by {before.driver} (heard of {before.beat:%H:%M:%S} UTC)",
                    f"stop that with Ctrl-C, or give --take-over; if it died, it counts as gone at "
                    f"{before.beat + STALE:%H:%M:%S} UTC",
                )
            mine = before.model_copy(update={"driver": self._by, "beat": now})
            try:
                self._write(_progress_name(backfill), mine, ABSENT if found is None else found[1])
            except Conflict:
                continue
            return mine

    def save(self, backfill: str, progress: Progress, now: datetime, *, leave: bool = False) -> None:
        """Write the progress down, and say that the driver is there, or that it leaves.

        Raises:
            InUse: another has taken over.
        """
        while True:
            found = self._read(_progress_name(backfill), Progress)
            if found is not None and found[0].driver != self._by:
                raise InUse(
                    f"backfill {backfill} was taken over by {found[0].driver or 'nobody'}",
                    f"where it stands: baton backfill --status {backfill}",
                )
            saved = progress.model_copy(update={"driver": "" if leave else self._by, "beat": now})
            try:
                self._write(_progress_name(backfill), saved, ABSENT if found is None else found[1])
            except Conflict:
                continue
            return

    def _read(self, name: str, kind: type[M]) -> tuple[M, int] | None:
        versioned = self._objects.read(name)
        return None if versioned is None else (kind.model_validate_json(versioned.content), versioned.generation)

    def _write(self, name: str, body: Plan | Progress, generation: int) -> None:
        self._objects.write(name, body.model_dump_json().encode(), if_generation=generation)


def _plan_name(backfill: str) -> str:
    return f"{PREFIX}{backfill}/plan.json"


def _progress_name(backfill: str) -> str:
    return f"{PREFIX}{backfill}/progress.json"
