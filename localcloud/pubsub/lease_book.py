"""Exactly-once leases on disk, so that a restart of the broker is not the end of them.

The service promises that a message is not sent again before its deadline. So a lease is written before its message is
sent, an extension before it is answered, and both go on after a crash with the ack ids that readers hold.
"""

from localcloud.pubsub.clock import Clock
from localcloud.pubsub.leases import Lease

INSERT = "INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?)"
DELETE = "DELETE FROM leases WHERE sub_no = ? AND seq = ?"
DELETE_ALL = "DELETE FROM leases WHERE sub_no = ?"

Row = tuple[int, int, int, str]
"""Subscription number, sequence, deadline in microseconds since 1970, ack id."""


class LeaseBook:
    """What has changed since the last batch."""

    def __init__(self, sub_no: int, clock: Clock) -> None:
        self._sub_no = sub_no
        self._clock = clock
        self._changes: dict[int, Lease | None] = {}

    def note(self, lease: Lease) -> None:
        """A lease has begun or been extended."""
        self._changes[lease.seq] = lease

    def strike(self, seq: int) -> None:
        """A lease has ended."""
        self._changes[seq] = None

    def take_changes(self) -> tuple[list[Row], list[tuple[int, int]]]:
        """Rows to write and rows to delete; from now on they count as written."""
        offset_s = self._clock.time() - self._clock.monotonic()
        changes, self._changes = self._changes, {}
        rows = [
            (self._sub_no, seq, int((lease.deadline_s + offset_s) * 1e6), lease.ack_id)
            for seq, lease in changes.items()
            if lease is not None
        ]
        return rows, [(self._sub_no, seq) for seq, lease in changes.items() if lease is None]
