"""The audit's books: what was published, batch by batch, and which batches are accounted for to the last message.

    audit/published/<topic>/<batch>.jsonl    the messages of a batch, written before they are acknowledged
    audit/accounted/<topic>/<batch>.json     what became of each of them, written when none of it can change any more

Both are written once and never changed, so an audit looks only at what the one before could not close, and auditing once a
day costs what a day's events cost.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from baton.audit.fate import Accounted
from baton.audit.published import Published
from workers.errors import Conflict
from workers.objects import ABSENT, Objects

PUBLISHED = "audit/published/"
ACCOUNTED = "audit/accounted/"
_READERS = 8


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages of one topic that were written down together; `accounted` is None while something may still change."""

    topic: str
    name: str
    messages: tuple[Published, ...]
    accounted: tuple[Accounted, ...] | None = None


class Books:
    """The books of one ledger."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def write(self, messages: Sequence[Published]) -> None:
        """Write messages of one topic down; the same ones again change nothing."""
        ids = ",".join(sorted(message.message_id for message in messages))
        began = min(message.time for message in messages)
        name = f"{began.replace(':', '').replace('+0000', '')}-{hashlib.sha256(ids.encode()).hexdigest()[:12]}"
        lines = "".join(json.dumps(message.to_json(), ensure_ascii=True) + "\n" for message in messages)
        self._create(f"{PUBLISHED}{messages[0].topic}/{name}.jsonl", lines)

    def close(self, batch: Batch, accounted: Iterable[Accounted]) -> None:
        """Write down that nothing in the batch can change any more."""
        rows = [found.to_json() for found in accounted]
        self._create(f"{ACCOUNTED}{batch.topic}/{batch.name}.json", json.dumps(rows, ensure_ascii=True))

    def read(self) -> list[Batch]:
        """Return all batches, the oldest of each topic first; a message that was written down twice is in the first."""
        names = sorted(name for name in self._objects.list(PUBLISHED) if name.endswith(".jsonl"))
        closed = set(self._objects.list(ACCOUNTED))
        with ThreadPoolExecutor(_READERS) as pool:
            read = list(pool.map(lambda name: self._batch(name, closed), names))
        return list(_without_repeats(read))

    def _batch(self, name: str, closed: set[str]) -> Batch:
        topic, _, file = name.removeprefix(PUBLISHED).partition("/")
        batch = file.removesuffix(".jsonl")
        messages = tuple(Published(**json.loads(line)) for line in self._content(name).splitlines())
        accounted_name = f"{ACCOUNTED}{topic}/{batch}.json"
        if accounted_name not in closed:
            return Batch(topic, batch, messages)
        by_id = {message.message_id: message for message in messages}
        rows = json.loads(self._content(accounted_name))
        return Batch(topic, batch, messages, tuple(Accounted.from_json(row, by_id) for row in rows))

    def _content(self, name: str) -> bytes:
        versioned = self._objects.read(name)
        return b"" if versioned is None else versioned.content

    def _create(self, name: str, text: str) -> None:
        try:
            self._objects.write(name, text.encode(), if_generation=ABSENT)
        except Conflict:
            return  # another audit wrote the same, or this one did and the answer was lost


def _without_repeats(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Leave out what an earlier batch has: an audit that died before its acknowledgement gets its messages again."""
    seen: set[tuple[str, str]] = set()
    for batch in batches:
        fresh = {m.message_id for m in batch.messages if (batch.topic, m.message_id) not in seen}
        seen |= {(batch.topic, message_id) for message_id in fresh}
        yield Batch(
            batch.topic,
            batch.name,
            tuple(m for m in batch.messages if m.message_id in fresh),
            None if batch.accounted is None else tuple(a for a in batch.accounted if a.message.message_id in fresh),
        )
