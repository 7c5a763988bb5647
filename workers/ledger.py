"""The ledger: where every stage of every run stands, and the index of work in flight.

    runs/<run_id>/<stage>.json      the stage's record, changed only by compare-and-set
    runs/<run_id>/cancelled.json    the tombstone: nothing more starts in this run
    inflight/<stage>/<run_id>       a marker, from before the claim until after the publish: what the sweep looks through
    cancelling/<run_id>             a marker, from before the tombstone until every stage of the run has ended
    fates/<subscription>/<message>  what became of a message that claimed nothing

No lock, no lease, no leader: losing a compare-and-set means that somebody else made the step, so read again.
"""

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from workers.errors import Conflict
from workers.objects import ABSENT, Objects
from workers.record import StageRecord, State


@dataclass(frozen=True, slots=True)
class Entry:
    """A record with the generation it was read or written at."""

    record: StageRecord
    generation: int


class Ledger:
    """The ledger on an object store."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def read(self, run_id: str, stage: str) -> Entry | None:
        """Return the stage's record, or None where it was never claimed."""
        versioned = self._objects.read(_record_name(run_id, stage))
        return None if versioned is None else Entry(StageRecord.from_json(versioned.content), versioned.generation)

    def claim(self, record: StageRecord) -> Entry:
        """Create the record.

        Raises:
            Conflict: this stage of this run is claimed already.
        """
        return self._write(record, ABSENT)

    def move(self, entry: Entry, record: StageRecord) -> Entry:
        """Replace `entry` by `record`.

        Raises:
            Conflict: somebody else moved it first.
        """
        return self._write(record, entry.generation)

    def mark(self, run_id: str, stage: str) -> None:
        """Note that there is work for `stage` in this run; marking twice is as good as once."""
        try:
            self._objects.write(_marker_name(run_id, stage), b"", if_generation=ABSENT)
        except Conflict:
            return  # the marker stands already, which is all we want

    def unmark(self, run_id: str, stage: str) -> None:
        """Take the note away; that it is gone already is as good."""
        self._objects.delete(_marker_name(run_id, stage))

    def marked(self, stage: str) -> Iterator[str]:
        """Yield the ids of the runs in which `stage` has work."""
        prefix = f"inflight/{stage}/"
        for name in self._objects.list(prefix):
            yield name.removeprefix(prefix)

    def is_cancelled(self, run_id: str) -> bool:
        """Tell whether the run has a tombstone."""
        return self._objects.read(_tombstone_name(run_id)) is not None

    def cancel(self, run_id: str, by: str, now: datetime) -> None:
        """Cancel the run; twice is as good as once.

        The marker comes first: whoever finds it without a tombstone completes the cancellation, so one that was begun
        by a process that died is not half a cancellation.
        """
        body = json.dumps({"by": by, "time": now.isoformat()}).encode()
        for name in (_cancelling_name(run_id), _tombstone_name(run_id)):
            try:
                self._objects.write(name, body, if_generation=ABSENT)
            except Conflict:
                continue  # it stands already, which is all we want

    def cancelling(self) -> Iterator[str]:
        """Yield the ids of the cancelled runs that may still have something to stop."""
        prefix = _cancelling_name("")
        for name in self._objects.list(prefix):
            yield name.removeprefix(prefix)

    def settle_cancellation(self, run_id: str, by: str, now: datetime) -> None:
        """Take the cancellation's marker away if every stage that was claimed has ended."""
        if not self.is_cancelled(run_id):
            self.cancel(run_id, by, now)  # who began it died in between
        if all(record.state is State.PUBLISHED for record in self.stages(run_id)):
            self._objects.delete(_cancelling_name(run_id))

    def note_fate(self, subscription: str, message_id: str, note: Mapping[str, str], now: datetime) -> None:
        """Note what became of a message that claimed nothing; the first note stands."""
        body = json.dumps({**note, "time": now.isoformat()}, ensure_ascii=False).encode(errors="replace")
        try:
            self._objects.write(_fate_name(subscription, message_id), body, if_generation=ABSENT)
        except Conflict:
            return  # it was noted at an earlier delivery

    def fate(self, subscription: str, message_id: str) -> dict[str, str] | None:
        """Return the note: fate, run_id, reason and time; None where there is none."""
        versioned = self._objects.read(_fate_name(subscription, message_id))
        return None if versioned is None else dict(json.loads(versioned.content))

    def runs(self) -> Iterator[tuple[str, str]]:
        """Yield (run id, stage) of every record."""
        for name in self._objects.list("runs/"):
            run_id, _, file = name.removeprefix("runs/").partition("/")
            stage = file.removesuffix(".json")
            if file.endswith(".json") and stage != "cancelled":
                yield run_id, stage

    def stages(self, run_id: str) -> list[StageRecord]:
        """Return the records of one run, in the order in which they were claimed."""
        prefix = f"runs/{run_id}/"
        entries = []
        for name in self._objects.list(prefix):
            stage = name.removeprefix(prefix).removesuffix(".json")
            entry = self.read(run_id, stage) if stage != "cancelled" else None
            if entry is not None:
                entries.append(entry.record)
        return sorted(entries, key=lambda record: record.history[0].time)

    def _write(self, record: StageRecord, if_generation: int) -> Entry:
        record = record.model_copy(update={"writer": uuid.uuid4().hex})
        name = _record_name(record.run_id, record.stage)
        try:
            return Entry(record, self._objects.write(name, record.to_json(), if_generation=if_generation))
        except Conflict:
            # An answer can be lost and the write be sent again by the client: then the "other" who won is ourselves.
            current = self.read(record.run_id, record.stage)
            if current is not None and current.record.writer == record.writer:
                return current
            raise


def _record_name(run_id: str, stage: str) -> str:
    return f"runs/{run_id}/{stage}.json"


def _marker_name(run_id: str, stage: str) -> str:
    return f"inflight/{stage}/{run_id}"


def _fate_name(subscription: str, message_id: str) -> str:
    return f"fates/{subscription}/{message_id}.json"


def _cancelling_name(run_id: str) -> str:
    return f"cancelling/{run_id}"


def _tombstone_name(run_id: str) -> str:
    return f"runs/{run_id}/cancelled.json"
