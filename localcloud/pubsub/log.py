"""A topic's log: its messages in publish order, on disk, with the newest ones also in memory.

A message is stored once, however many subscriptions its topic has. Subscriptions remember positions in the log.
"""

from collections import OrderedDict
from typing import Any, NamedTuple

from localcloud.pubsub.store import MAX_SEQUENCE, SEQUENCE_BITS, Store

INSERT = "INSERT INTO messages VALUES (?, ?, ?, ?)"
_RANGE = "SELECT id, published_us, body FROM messages WHERE id >= ? AND id <= ? ORDER BY id LIMIT ?"
_SCAN_BODIES = (
    "SELECT id, published_us, ordering_key, body FROM messages m WHERE id > ? AND id <= ? AND NOT EXISTS "
    "(SELECT 1 FROM acks WHERE sub_no = ? AND seq = m.id & 1099511627775) ORDER BY id LIMIT ?"  # MAX_SEQUENCE
)
_SCAN = _SCAN_BODIES.replace("body", "x''", 1)
_SCAN_BYTES = 4 << 20
_READ_AHEAD = 1024


class Entry(NamedTuple):
    """One message of a log."""

    seq: int
    """Position: rises with publish order over all topics; its decimal form is the message id."""
    published_us: int
    key: str
    """Ordering key, empty if there is none."""
    body: bytes
    """Serialised PubsubMessage with message id and publish time."""


class BodyCache:
    """The newest messages, so that what is delivered at once is not read from disk.

    Args:
        max_bytes: how much to hold; the oldest leave first.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._rows: OrderedDict[int, tuple[int, bytes]] = OrderedDict()
        self.get = self._rows.get

    def add(self, entries: list[Entry]) -> None:
        """Hold the messages, and let the oldest go if there are too many."""
        rows = self._rows
        for seq, published_us, _, body in entries:
            rows[seq] = (published_us, body)
            self._bytes += len(body)
        while self._bytes > self._max_bytes:
            self._bytes -= len(rows.popitem(last=False)[1][1])

    def clear(self) -> None:
        """Hold nothing."""
        self._rows.clear()
        self._bytes = 0


class TopicLog:
    """The log of one topic."""

    def __init__(self, no: int, store: Store, cache: BodyCache) -> None:
        self.no = no
        self._base = no << SEQUENCE_BITS
        self._store = store
        self._cache = cache
        self.floor = 0
        self.last_position = 0
        self.retention_s = 0.0
        """How long the topic keeps messages for all its subscriptions, acked or not; 0 if it leaves that to them."""

    def load(self) -> None:
        """Learn from disk where the log ends."""
        self.last_position = self.edges()[1]

    def append(self, entries: list[Entry], *, is_awaited: bool) -> None:
        """Add messages to the batch in hand; they are in the log once it is committed.

        Args:
            is_awaited: whether they are worth holding in memory, for they will be read at once.
        """
        base = self._base
        self._store.write(INSERT, [(base | seq, at_us, key or None, body) for seq, at_us, key, body in entries])
        if is_awaited:
            self._cache.add(entries)

    def read(self, seqs: list[int], max_bytes: int) -> list[tuple[int, bytes] | None]:
        """(publish time, body) for the first of these messages, at least one, up to `max_bytes` of bodies in all.

        None stands for a message that the log no longer holds.
        """
        rows: list[tuple[int, bytes] | None] = []
        total = 0
        ahead: dict[int, tuple[int, bytes]] = {}
        cached = self._cache.get
        for index, seq in enumerate(seqs):
            row = cached(seq) or ahead.get(seq)
            if row is None:
                ahead = self._read_ahead(seq, max(seqs[index:]), len(seqs) - index, max_bytes - total)
                row = ahead.get(seq)
            if row is not None:
                total += len(row[1])
                if total > max_bytes and rows:
                    break
            rows.append(row)
        return rows

    def _read_ahead(self, seq: int, last: int, limit: int, max_bytes: int) -> dict[int, tuple[int, bytes]]:
        ahead: dict[int, tuple[int, bytes]] = {}
        total = 0
        base = self._base
        cursor = self._store.rows(_RANGE, (base | seq, base | last, min(limit, _READ_AHEAD)))
        for row_id, published_us, body in cursor:
            ahead[row_id - base] = (published_us, body)
            total += len(body)
            if total > max_bytes:
                break
        cursor.close()
        return ahead

    def scan(self, after: int, limit: int, skip_acked_by: int, *, with_bodies: bool) -> tuple[list[Entry], bool]:
        """The next messages after a position which a subscription has not acked, and whether the log ends there.

        Bodies are empty unless asked for; with bodies, what is read at once is bounded in bytes too.
        """
        base = self._base
        sql = _SCAN_BODIES if with_bodies else _SCAN
        rows = self._store.rows(sql, (base | after, base | MAX_SEQUENCE, skip_acked_by, limit))
        found: list[Entry] = []
        total = 0
        for row_id, at_us, key, body in rows:
            found.append(Entry(row_id - base, at_us, key or "", body))
            total += len(body)
            if total > _SCAN_BYTES:
                break
        rows.close()
        return found, len(found) < limit and total <= _SCAN_BYTES

    def last_before(self, time_us: int) -> int:
        """The newest position published before the time; 0 if there is none. Publish times rise along a log."""
        first_us = self._published_us(0)
        if first_us is None or first_us >= time_us:
            return 0  # the usual answer, by one look
        first, last = self.edges()
        low, high = first, last
        while low < high:
            middle = (low + high + 1) // 2
            # The first message at or after the middle decides for the whole gap before it.
            at_us = self._published_us(middle)
            if at_us is not None and at_us < time_us:
                low = middle
            else:
                high = middle - 1
        return low

    async def count_after(self, seq: int, sub_no: int) -> int:
        """How many messages follow a position, less those the subscription has acked."""
        span = (self._base | seq, self._base | MAX_SEQUENCE)
        total = await self._store.read_aside("SELECT count(*) FROM messages WHERE id > ? AND id <= ?", span)
        acked = self._store.read("SELECT count(*) FROM acks WHERE sub_no = ? AND seq > ?", (sub_no, seq))
        return max(0, int(total[0][0]) - int(acked[0][0]))

    def first_after(self, seq: int) -> int:
        """Publish time in microseconds of the first message after a position; 0 if there is none."""
        return int(self._published_us(seq + 1) or 0)

    def edges(self) -> tuple[int, int]:
        """First and last position on disk; (0, 0) if the log is empty."""
        base = self._base
        span = (base, base | MAX_SEQUENCE)
        low = self._store.read("SELECT min(id) FROM messages WHERE id >= ? AND id <= ?", span)[0][0]
        high = self._store.read("SELECT max(id) FROM messages WHERE id >= ? AND id <= ?", span)[0][0]
        return (0, 0) if low is None else (low - base, high - base)

    def _published_us(self, seq: int) -> Any:
        rows = self._store.rows(
            "SELECT published_us FROM messages WHERE id >= ? AND id <= ? ORDER BY id LIMIT 1",
            (self._base | seq, self._base | MAX_SEQUENCE),
        )
        row = rows.fetchone()
        rows.close()
        return None if row is None else row[0]

    def trim(self, until: int, limit: int) -> bool:
        """Delete up to `limit` messages up to a position, with the batch in hand; True if there may be more."""
        if until <= self.floor:
            return False
        base = self._base
        doomed = self._store.read(
            "SELECT id FROM messages WHERE id > ? AND id <= ? ORDER BY id LIMIT ?",
            (base | self.floor, base | until, limit),
        )
        if doomed:
            self._store.write("DELETE FROM messages WHERE id > ? AND id <= ?", [(base | self.floor, doomed[-1][0])])
        is_all = len(doomed) < limit
        self.floor = until if is_all else doomed[-1][0] - base
        return not is_all
