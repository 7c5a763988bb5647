"""Delivers the outbox: events that committed with their object and now wait for the broker.

Each row is deleted after the broker has it, so a crash in between repeats it, and none is lost: at least once, as
the cloud promises. A topic that refuses (deleted, or the broker is away) is tried again ever more slowly; after seven
days the event is dropped, also as in the cloud. One bad topic does not hold up the others.
"""

import asyncio
import functools
import json
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from localcloud.storage.database import Database, Transaction, wall_clock_us

Publish = Callable[[str, bytes, dict[str, str]], Awaitable[str]]

_PAGE = 200  # events in hand at once
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.1, 15.0
_LIFETIME_US = 7 * 24 * 3600 * 1_000_000

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Backoff:
    pause_s: float
    until: float


class Outbox:
    """One background task; `wake` it when events were committed."""

    def __init__(
        self,
        database: Database,
        publish: Publish,
        *,
        clock_us: Callable[[], int] = wall_clock_us,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._publish = publish
        self._clock_us = clock_us
        self._monotonic = monotonic
        self._awake = asyncio.Event()
        self._backoffs: dict[str, _Backoff] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin with whatever an earlier process left."""
        self._awake.set()
        self._task = asyncio.create_task(self._run(), name="storage-outbox")

    async def stop(self) -> None:
        """Stop; what is not delivered stays for the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def wake(self) -> None:
        """There may be new events."""
        self._awake.set()

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._pause_s()):
                    await self._awake.wait()
            except TimeoutError:
                pass
            self._awake.clear()
            try:
                await self.deliver()
            except Exception:
                log.exception("outbox failed", extra={"action": "outbox_failed"})
                await asyncio.sleep(_FIRST_PAUSE_S)
                self._awake.set()

    async def deliver(self) -> int:
        """Deliver what can be delivered now; return how many events left the outbox."""
        delivered = 0
        after = 0
        now = self._monotonic()
        while found := self._page(after):
            after = found[-1][0]
            done = [row_id for row_id in await asyncio.gather(*map(self._deliver_one, found)) if row_id is not None]
            if done:
                await self._database.write(functools.partial(_delete, done))
            delivered += len(done)
        # What is due still after this round has no events left; keeping it would wake us for ever.
        self._backoffs = {topic: backoff for topic, backoff in self._backoffs.items() if backoff.until > now}
        return delivered

    def _page(self, after: int) -> list[tuple[int, str, bytes, str, int]]:
        now = self._monotonic()
        held = {topic for topic, backoff in self._backoffs.items() if backoff.until > now}
        return self._database.reader.execute(
            "SELECT id, topic, data, attributes, created_us FROM outbox "
            "WHERE id > ? AND topic NOT IN (SELECT value FROM json_each(?)) ORDER BY id LIMIT ?",
            (after, json.dumps(sorted(held)), _PAGE),
        ).fetchall()

    async def _deliver_one(self, row: Sequence[object]) -> int | None:
        """Publish one event; return its id if it is done with."""
        row_id, topic, data, attributes, created_us = row
        assert isinstance(row_id, int)
        assert isinstance(topic, str)
        assert isinstance(data, bytes)
        assert isinstance(attributes, str)
        assert isinstance(created_us, int)
        try:
            await self._publish(topic, data, json.loads(attributes))
        except Exception as error:  # noqa: BLE001  (whatever the broker says, the event stays and is tried again)
            return self._refused(row_id, topic, created_us, error)
        self._backoffs.pop(topic, None)
        return row_id

    def _refused(self, row_id: int, topic: str, created_us: int, error: Exception) -> int | None:
        fields = {"topic": topic, "event_id": row_id, "error": str(error)}
        if self._clock_us() - created_us > _LIFETIME_US:
            log.error("event dropped after seven days", extra={"action": "event_dropped", **fields})
            return row_id
        now = self._monotonic()
        backoff = self._backoffs.get(topic)
        if backoff is None or backoff.until <= now:
            pause_s = _FIRST_PAUSE_S if backoff is None else min(backoff.pause_s * 2, _LAST_PAUSE_S)
            self._backoffs[topic] = _Backoff(pause_s, now + pause_s)
            log.warning("event refused", extra={"action": "event_refused", "pause_s": pause_s, **fields})
        return None

    def _pause_s(self) -> float | None:
        """Until the first refused topic is to be tried again; None if there is none."""
        if not self._backoffs:
            return None
        return max(0.0, min(backoff.until for backoff in self._backoffs.values()) - self._monotonic())


def _delete(row_ids: Sequence[int], transaction: Transaction) -> None:
    transaction.db.executemany("DELETE FROM outbox WHERE id = ?", [(row_id,) for row_id in row_ids])
