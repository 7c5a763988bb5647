"""Brings dead letters from their subscription into the archive; a letter is acknowledged when it is written down.

A crash in between leaves the letter with Pub/Sub, which delivers it again: the second time it is there already.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from google.api_core import exceptions as google_errors

from baton.connections import KNOWN_FAULTS, Connections
from baton.dlq.archive import ABSENT, Archive
from baton.dlq.letter import Arrival, Change, Content, DeadLetter, LetterState
from baton.errors import NotKnown
from baton.pulling import drain
from messages.dead_letters import digest_of, origin_of, restored
from messages.identity import ORIGINAL_ID, letter_key, original_message_id, run_id_of
from messages.topics import DEAD_LETTER_SUBSCRIPTION
from workers.errors import Conflict

_WRITERS = 8
_BY = "dead-letter-inbox"


def collect(connections: Connections, archive: Archive, report: Callable[[int], None] | None = None) -> int:
    """Write down every letter that waits, and return how many there were.

    Args:
        report: told after each batch how many letters were taken so far.

    Raises:
        NotKnown: the dead-letter topic has no subscription of ours; what is in the archive can be used all the same.
    """
    taken = 0
    try:
        for count in drain(connections, DEAD_LETTER_SUBSCRIPTION, lambda received: keep_all(archive, received)):
            taken += count
            if report is not None:
                report(taken)
    except google_errors.NotFound as fault:
        raise NotKnown(
            f"subscription {DEAD_LETTER_SUBSCRIPTION} is not there: what no worker can use is dropped for good",
            "create it with `baton setup`",
        ) from fault
    return taken


def keep(archive: Archive, letter: DeadLetter) -> DeadLetter:
    """Write one letter down, or find that it is there."""
    while True:
        try:
            return archive.write(letter, ABSENT).letter  # most are new: no look before
        except Conflict:
            there = archive.read(letter.key)
        if there is None:
            continue
        if letter.arrivals[0].identity in {arrival.identity for arrival in there.letter.arrivals}:
            return there.letter
        if not _is_same_event(there.letter, letter):
            # Another message under the same original id: somebody forged one. It is kept under its own.
            letter = letter.model_copy(update={"key": letter.arrivals[0].letter_id, "message_id": ""})
            continue
        try:
            return archive.write(_come_back(there.letter, letter), there.generation).letter
        except Conflict:
            continue  # another terminal wrote just now: look again


def letter_of(message_id: str, time: datetime, data: bytes, attributes: dict[str, str]) -> DeadLetter:
    """Return a message of the dead-letter topic as a letter.

    Args:
        message_id: its id on that topic.
        time: when it was published there.
    """
    origin, own = origin_of(attributes), restored(attributes)
    first = _first_id(origin.message_id, attributes)
    arrival = Arrival(
        letter_id=message_id,
        source_id=origin.message_id,
        reason=origin.reason,
        time=time.astimezone(UTC),
        by=origin.by,
        subscription=origin.subscription,
        published=origin.published,
        digest=digest_of(data, attributes),
        attempts=origin.attempts,
    )
    carried = {**own, ORIGINAL_ID: first} if first else own
    return DeadLetter(
        key=letter_key(attributes) or first or message_id,
        state=LetterState.OPEN,
        topic=origin.topic,
        run_id=run_id_of(carried, first or message_id),
        message_id=first,
        content=Content.of(data, own),
        arrivals=(arrival,),
        history=(Change(time=arrival.time, state=LetterState.OPEN, by=origin.by or _BY, note="put aside"),),
    )


def _first_id(source_id: str, attributes: dict[str, str]) -> str:
    """Return the id under which the message was first published, or "" where nobody says it readably."""
    readable = original_message_id({ORIGINAL_ID: source_id}, "")
    return original_message_id(attributes, readable)


def _is_same_event(there: DeadLetter, letter: DeadLetter) -> bool:
    """Tell whether what came is what was sent: as it was first, or as it was edited."""
    return letter.content in (there.content, there.edited)


def _come_back(there: DeadLetter, letter: DeadLetter) -> DeadLetter:
    arrival = letter.arrivals[0]
    return there.changed(
        LetterState.OPEN,
        now=arrival.time,
        by=arrival.by or _BY,
        note="put aside again",
        arrivals=(*there.arrivals, arrival),
    )


def keep_all(archive: Archive, received: Sequence[Any]) -> tuple[Sequence[Any], Exception | None]:
    """Write down a batch; one that cannot be is left to come again."""
    done: list[Any] = []
    faults: list[Exception] = []

    def one(item: Any) -> None:
        message = item.message
        letter = letter_of(message.message_id, message.publish_time, message.data, dict(message.attributes))
        try:
            keep(archive, letter)
        except KNOWN_FAULTS as fault:
            faults.append(fault)
        else:
            done.append(item)

    with ThreadPoolExecutor(_WRITERS) as pool:
        list(pool.map(one, received))
    return done, faults[0] if faults else None
