"""Finds what became of each message: in the ledger, among the notes of fates, among the dead letters.

An accepted message is named in the record that it became; every other fate was noted before the message was acknowledged.
So what is neither named nor noted is not acknowledged either, or it is lost.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta

from baton.audit.fate import Accounted, Verdict
from baton.audit.published import Published, to_milliseconds
from baton.dlq.archive import Archive
from messages.topics import listeners, stage_of
from messages.versions import CURRENT
from workers.intake import Fate
from workers.ledger import Ledger
from workers.record import Outcome, StageRecord, State

_READERS = 8
_NOTED = {
    Fate.DUPLICATE.value: Verdict.DUPLICATE,
    Fate.FILTERED.value: Verdict.FILTERED,
    Fate.DEAD_LETTERED.value: Verdict.DEAD_LETTERED,
}
Seen = frozenset[tuple[str, str]]
Delivery = tuple[Published, str]


def deliveries(messages: Iterable[Published]) -> list[Delivery]:
    """Return each message with each stage's queue that it goes to; none for a topic to which no stage listens."""
    return [(message, queue) for message in messages for queue in listeners(message.topic)]


class Accountant:
    """Accounts for messages of one ledger.

    Args:
        clock: the time, aware.
        patience: how long what was told may take until it is seen; younger things are in flight.
    """

    def __init__(self, ledger: Ledger, archive: Archive, clock: Callable[[], datetime], patience: timedelta) -> None:
        self._ledger = ledger
        self._archive = archive
        self._clock = clock
        self._patience = patience

    def account(self, deliveries: Sequence[Delivery], seen: Seen) -> tuple[list[Accounted], list[Accounted]]:
        """Return what is accounted for, and what is not (with verdict LOST, to be looked for elsewhere).

        Args:
            deliveries: each message with each queue that it goes to.
            seen: (topic, event id) of every event that any audit saw.
        """
        with ThreadPoolExecutor(_READERS) as pool:
            found = list(pool.map(lambda pair: self._one(pair[0], pair[1], seen), deliveries))
        left = [Accounted(*pair, Verdict.LOST) for pair, one in zip(deliveries, found, strict=True) if one is None]
        forwarded, left = self._forwarded(left)
        return [one for one in found if one is not None] + forwarded, left

    def _one(self, message: Published, queue: str, seen: Seen) -> Accounted | None:
        if message.run_id:
            entry = self._ledger.read(message.run_id, stage_of(queue))
            if entry is not None and entry.record.trigger.message_id == message.message_id:
                return self._consumed(Accounted(message, queue, Verdict.CONSUMED, message.run_id), entry.record, seen)
        note = self._ledger.fate(queue, message.message_id)
        if note is not None and note["fate"] in _NOTED:
            noted = Accounted(message, queue, _NOTED[note["fate"]], note["run_id"], note["reason"])
            if noted.verdict is Verdict.DEAD_LETTERED and not self._has_letter(message):
                return self._without_letter(noted, note["time"])
            return noted
        if self._has_letter(message):
            # Put aside, and its worker died before it said so: the message comes again, and then it will.
            return Accounted(message, queue, Verdict.DEAD_LETTERED, is_final=False)
        return None

    def _consumed(self, found: Accounted, record: StageRecord, seen: Seen) -> Accounted:
        """Look whether the stage's own event has been seen since; until then the last word is not spoken."""
        if record.state is not State.PUBLISHED:
            return replace(found, is_final=False, note=f"{record.stage} is {record.state.value}")
        event = _told_by(record)
        if event is None or event in seen:
            return found
        if self._clock() - record.since < self._patience:
            return replace(found, is_final=False, note=f"{event[1]} was told and not yet seen")
        return replace(found, is_final=False, missing=" ".join(event))

    def _has_letter(self, message: Published) -> bool:
        kept = self._archive.read(message.letter or message.first_id)
        return kept is not None and message.message_id in {arrival.source_id for arrival in kept.letter.arrivals}

    def _without_letter(self, noted: Accounted, time: str) -> Accounted:
        if self._clock() - datetime.fromisoformat(time) < self._patience:
            return replace(noted, verdict=Verdict.IN_FLIGHT, note="its dead letter is on its way", is_final=False)
        note = f"put aside ({noted.note}), but its letter is gone: had the dead-letter topic a subscription?"
        return replace(noted, verdict=Verdict.LOST, note=note, is_final=False)

    def _forwarded(self, left: Sequence[Accounted]) -> tuple[list[Accounted], list[Accounted]]:
        """Find those that Pub/Sub put aside itself: by queue, time and digest, since it does not name the message."""
        if not left:
            return [], []
        letters = Counter(
            (found.subscription, to_milliseconds(found.published), found.digest)
            for summary in self._archive.summaries()
            for found in summary.forwarded
        )
        accounted, still_left = [], []
        for one in left:
            trace = (one.queue, one.message.milliseconds, one.message.digest)
            if letters[trace] > 0:
                letters[trace] -= 1
                note = f"delivered too often to {one.queue}, put aside by Pub/Sub"
                accounted.append(replace(one, verdict=Verdict.DEAD_LETTERED, note=note))
            else:
                still_left.append(one)
        return accounted, still_left


def outcomes(messages: Sequence[Published]) -> list[Accounted]:
    """Account for topics to which no stage listens: an event is an outcome the first time that it is told."""
    told: set[tuple[str, str]] = set()
    found = []
    for message in sorted(messages, key=lambda m: (m.time, m.message_id)):
        event = (message.topic, message.event_id or message.message_id)
        verdict = Verdict.DUPLICATE if event in told else Verdict.OUTCOME
        told.add(event)
        found.append(Accounted(message, "", verdict, message.run_id, "told again" if event in told else ""))
    return [replace(one, note="") if one.verdict is Verdict.OUTCOME else one for one in found]


def _told_by(record: StageRecord) -> tuple[str, str] | None:
    """Return (topic, event id) of the event that a published record told; None for one that told nothing."""
    if record.result is None:
        return None
    event = CURRENT.get(str(record.result.get("type")))
    if event is None:
        return None
    word = "done" if record.outcome is Outcome.SUCCEEDED else "failed"
    return event.TOPIC, f"{record.run_id}.{record.stage}.{word}"
