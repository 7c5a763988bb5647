"""What a subscription still owes: a position in the log, the exceptions after it, and a window of ids in memory.

`cursor` is the position up to which everything is acked. Acks after it are exceptions, kept as rows on disk until the cursor
passes them. Only a window of the log is in memory, as bare ids; the rest is read when its turn comes.
"""

from collections import deque
from collections.abc import Callable

from localcloud.pubsub.log import Entry, TopicLog

WINDOW = 50_000
REFILL = 2_000
# With ordering keys a window full of blocked keys must not hide a free one behind it; this bounds the search.
MAX_WINDOW = 500_000
_MAX_EXCEPTIONS = 50_000


class Backlog:
    """The unacked messages of one subscription.

    Args:
        cursor: position up to which everything is acked.
        admit: takes each batch of messages which enter the window, in log order, and answers which of them count.
    """

    def __init__(self, log: TopicLog, sub_no: int, cursor: int, admit: Callable[[list[Entry]], list[int]]) -> None:
        self._log = log
        self._sub_no = sub_no
        self._admit = admit
        self._order: deque[int] = deque()
        self._acked: set[int] = set()
        self._new_acks: list[int] = []
        self._early: set[int] = set()
        self.reset(cursor)

    def reset(self, cursor: int) -> None:
        """Begin again from a position, with the exceptions that are on disk."""
        self.loaded_until = cursor
        self.is_behind = True
        self._order.clear()
        self._acked.clear()
        self._new_acks.clear()
        self._early.clear()

    @property
    def cursor(self) -> int:
        """Everything up to here is acked."""
        return self._order[0] - 1 if self._order else self.loaded_until

    @property
    def oldest(self) -> int | None:
        """The oldest unacked position in the window, None if there is none."""
        return self._order[0] if self._order else None

    @property
    def loaded(self) -> int:
        """Unacked messages in the window, delivered or not."""
        return len(self._order) - len(self._acked)

    def owes(self, seq: int) -> bool:
        """Whether a message of the log is unacked; the acks on disk are the caller's to look up."""
        if seq > self.loaded_until:
            return seq not in self._early
        return seq > self.cursor and seq not in self._acked

    def offer(self, entries: list[Entry]) -> bool:
        """Newly committed messages; True if they are in the window now, False if they wait on disk."""
        if self.is_behind:
            return False
        if entries[0].seq <= self.loaded_until:
            entries = [entry for entry in entries if entry.seq > self.loaded_until]
            if not entries:
                return False
        if len(self._order) >= WINDOW:
            self.is_behind = True
            return False
        self._enter(entries)
        return True

    @property
    def can_refill(self) -> bool:
        """Whether there is more on disk, and room for it."""
        return self.is_behind and len(self._order) < MAX_WINDOW

    def refill(self, *, with_bodies: bool) -> bool:
        """Read on from disk, once; True if anything was read, whether it counts for this subscription or not."""
        if not self.can_refill:
            return False
        entries, is_end = self._log.scan(self.loaded_until, REFILL, self._sub_no, with_bodies=with_bodies)
        self.is_behind = not is_end
        if entries:
            self._enter(entries)
        return bool(entries)

    def _enter(self, entries: list[Entry]) -> None:
        self.loaded_until = entries[-1].seq
        if self._early:
            entries = [entry for entry in entries if entry.seq not in self._early]
            if not entries:
                return
        self._order.extend(self._admit(entries))

    def ack(self, seq: int) -> None:
        """Done with the message. It is on disk once `take_new_acks` has been written and committed."""
        order = self._order
        if order and order[0] == seq:
            order.popleft()
            acked = self._acked
            while acked and order and order[0] in acked:
                acked.remove(order.popleft())
            return
        self._acked.add(seq)
        self._new_acks.append(seq)
        if len(self._acked) > _MAX_EXCEPTIONS and len(self._acked) > len(order) // 2:
            self._order = deque(item for item in order if item not in self._acked)
            self._acked.clear()

    def ack_unread(self, seq: int) -> None:
        """Done with a message that is not in the window yet: an ack id from before a restart."""
        if seq > self.loaded_until and seq not in self._early:
            self._early.add(seq)
            self._new_acks.append(seq)

    def take_new_acks(self) -> list[int]:
        """Exceptions not on disk yet; from now on they count as written."""
        cursor = self.cursor
        new, self._new_acks = [seq for seq in self._new_acks if seq > cursor], []
        return new
