"""The outbox under a clock of our own: pauses, order, and the end after seven days."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

from localcloud.storage.database import Database, Transaction
from localcloud.storage.outbox import Outbox

WEEK_US = 7 * 24 * 3600 * 1_000_000


class Bench:
    """A database with an outbox whose time and broker the test decides."""

    def __init__(self, database: Database) -> None:
        self.now_us = 1_000_000
        self.seconds = 0.0
        self.is_refusing = False
        self.sent: list[bytes] = []
        self.tries = 0
        self.database = database
        self.outbox = Outbox(database, self._publish, clock_us=lambda: self.now_us, monotonic=lambda: self.seconds)

    async def put(self, data: bytes, topic: str = "topic") -> None:
        def insert(transaction: Transaction) -> None:
            transaction.db.execute(
                "INSERT INTO outbox (topic, data, attributes, created_us) VALUES (?, ?, ?, ?)",
                (topic, data, json.dumps({}), self.now_us),
            )

        await self.database.write(insert)

    def left(self) -> int:
        (count,) = self.database.reader.execute("SELECT count(*) FROM outbox").fetchone()
        return int(count)

    async def _publish(self, topic: str, data: bytes, attributes: dict[str, str]) -> str:
        self.tries += 1
        if self.is_refusing:
            raise LookupError(f"{topic} does not exist")
        self.sent.append(data)
        return "id"


def use(tmp_path: Path, body: Callable[[Bench], Awaitable[None]]) -> None:
    async def run() -> None:
        database = Database(tmp_path / "db", on_garbage=lambda _: None, on_events=lambda: None)
        database.open()
        try:
            await body(Bench(database))
        finally:
            await database.close()

    asyncio.run(run())


def test_everything_is_delivered_in_order_and_forgotten(tmp_path: Path) -> None:
    """Events leave in the order they were made, more than one page of them, and each once."""

    async def body(bench: Bench) -> None:
        expected = [str(number).encode() for number in range(450)]
        for data in expected:
            await bench.put(data)
        assert await bench.outbox.deliver() == 450
        assert bench.sent == expected
        assert bench.left() == 0
        assert await bench.outbox.deliver() == 0

    use(tmp_path, body)


def test_a_refusing_topic_is_tried_ever_more_slowly(tmp_path: Path) -> None:
    """Pauses double from 0.1 s to 15 s; within one the broker is left in peace."""

    async def body(bench: Bench) -> None:
        bench.is_refusing = True
        await bench.put(b"x")
        pauses = []
        for _ in range(10):
            tries = bench.tries
            assert await bench.outbox.deliver() == 0
            assert bench.tries == tries + 1
            assert await bench.outbox.deliver() == 0
            assert bench.tries == tries + 1
            pause_s = bench.outbox._pause_s()
            assert pause_s is not None
            pauses.append(round(pause_s, 3))
            bench.seconds += pause_s
        assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 15.0, 15.0]
        bench.is_refusing = False
        assert await bench.outbox.deliver() == 1
        assert bench.outbox._pause_s() is None

    use(tmp_path, body)


def test_an_event_is_given_up_after_seven_days(tmp_path: Path) -> None:
    """As in the cloud; not a moment before, and the outbox then rests."""

    async def body(bench: Bench) -> None:
        bench.is_refusing = True
        await bench.put(b"x")
        bench.now_us += WEEK_US
        await bench.outbox.deliver()
        assert bench.left() == 1
        bench.now_us += 1
        bench.seconds += 60
        await bench.outbox.deliver()
        assert bench.left() == 0
        assert bench.outbox._pause_s() is None

    use(tmp_path, body)


def test_a_topic_without_events_is_forgotten(tmp_path: Path) -> None:
    """A topic that refused and whose events are gone keeps nobody awake."""

    async def body(bench: Bench) -> None:
        bench.is_refusing = True
        await bench.put(b"x")
        await bench.outbox.deliver()
        await bench.database.write(lambda transaction: transaction.db.execute("DELETE FROM outbox").rowcount)
        bench.seconds += 60
        await bench.outbox.deliver()
        assert bench.outbox._pause_s() is None

    use(tmp_path, body)
