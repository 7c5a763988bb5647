"""What becomes of a delivery: its ack, its nack, its deadline.

The newest ack id of a message also counts after its deadline as long as the message has not been handed out again, except
in exactly-once mode.
"""

import heapq
from collections.abc import Iterable

from localcloud.pubsub.ack_ids import seq_of
from localcloud.pubsub.delivery_state import DeliveryState, ring
from localcloud.pubsub.leases import Lease, LeaseState
from localcloud.pubsub.ordering import KeyQueue
from localcloud.pubsub.unkind import Unkind

INVALID_ACK_ID = "PERMANENT_FAILURE_INVALID_ACK_ID"
UNORDERED_ACK_ID = "TRANSIENT_FAILURE_UNORDERED_ACK_ID"
UNKIND_ACK_ID = "TRANSIENT_FAILURE_UNKIND_MODE"


class Answers(DeliveryState):
    """Takes readers' answers, and their silence."""

    def ack(self, ack_ids: Iterable[str]) -> dict[str, str]:
        """Acknowledge; answers the failures by ack id, always empty without exactly-once.

        Raises:
            InvalidArgument: an id is malformed or of another subscription; nothing was acked.
        """
        failures: dict[str, str] = {}
        by_seq = self.leases.by_seq
        for seq, ack_id in self._ack_ids.parse(dict.fromkeys(ack_ids), self.name):
            lease = by_seq.get(seq)
            if lease is not None and lease.ack_id == ack_id and lease.state != LeaseState.HELD:
                reason = self._ack_lease(lease)
            else:
                reason = self._ack_late(seq, ack_id, lease)
            if self.settings.is_exactly_once and not self._ack_ids.was_acked(ack_id):
                if reason:
                    failures[ack_id] = reason
                else:
                    self._ack_ids.remember(ack_id)
        if self.backlog.is_behind and self._idle:
            self._wake_idle(1)
        return failures

    def holds(self, ack_id: str) -> bool:
        """Whether the id stands for a running lease."""
        lease = self.leases.by_seq.get(seq_of(ack_id))
        return lease is not None and lease.ack_id == ack_id and lease.state == LeaseState.LEASED

    def _ack_lease(self, lease: Lease) -> str:
        if self._unkind is not None and (reason := self._misfortune(self._unkind, lease)):
            return reason
        if self.settings.is_exactly_once:
            if lease.state != LeaseState.LEASED:
                return INVALID_ACK_ID
            if lease.queue is not None and lease.queue.in_flight.first is not lease:
                return UNORDERED_ACK_ID
        if lease.queue is None:
            self._release(lease)
            self._acked(lease)
            return ""
        if lease.state == LeaseState.LEASED:
            self._release(lease)
            for effective in self._keys.acked(lease):
                self._acked(effective)
            self._wake()
        return ""

    def _misfortune(self, unkind: Unkind, lease: Lease) -> str:
        """Why this ack shall not count, if it shall not."""
        if self.settings.is_exactly_once:
            is_due = lease.state == LeaseState.LEASED and unkind.fails_ack()
            return UNKIND_ACK_ID if is_due else ""
        return INVALID_ACK_ID if lease.state == LeaseState.RETURNED or unkind.loses_ack() else ""

    def _acked(self, lease: Lease) -> None:
        self.leases.end(lease)
        self.counts["acked"] += 1
        self._forget(lease.seq)

    def _forget(self, seq: int) -> None:
        """Done with the message, by ack, retention or dead letter."""
        self.backlog.ack(seq)
        if self.failures and self.failures.pop(seq, 0):
            self.new_failures[seq] = 0
        self._hooks.mark_dirty(self)

    def _drop(self, seq: int) -> None:
        """Retention has taken the message before its turn came."""
        lease = self.leases.by_seq.get(seq)
        if lease is not None:
            self.leases.end(lease)
        self._forget(seq)

    def _ack_late(self, seq: int, ack_id: str, lease: Lease | None) -> str:
        """An id which is not the newest of its message. One from before a restart still counts, without exactly-once."""
        epoch = self._ack_ids.epoch_of(ack_id)
        if lease is not None or epoch >= self._hooks.epoch or self.settings.is_exactly_once or self.settings.is_ordered:
            return INVALID_ACK_ID
        if self._pauses:
            return INVALID_ACK_ID
        if seq > self.backlog.loaded_until:
            self.backlog.ack_unread(seq)
        elif seq > self.backlog.cursor and seq not in self._skips:
            self._skips.add(seq)
            self.backlog.ack(seq)
        self._hooks.mark_dirty(self)
        return INVALID_ACK_ID

    def modify(self, ack_ids: Iterable[str], deadlines_s: Iterable[int]) -> dict[str, str]:
        """Set new deadlines, counted from now; 0 gives the message back. Answers failures as `ack` does.

        Raises:
            InvalidArgument: an id is malformed or of another subscription; nothing was changed.
        """
        failures: dict[str, str] = {}
        now_s = self._clock.monotonic()
        by_seq = self.leases.by_seq
        is_nacked = False
        for (seq, ack_id), deadline_s in zip(self._ack_ids.parse(ack_ids, self.name), deadlines_s, strict=True):
            lease = by_seq.get(seq)
            if lease is None or lease.ack_id != ack_id or lease.state != LeaseState.LEASED:
                if self.settings.is_exactly_once:
                    failures[ack_id] = INVALID_ACK_ID
            elif deadline_s:
                self.leases.extend(lease, now_s + deadline_s)
                if self.book is not None:
                    self.book.note(lease)
                    self._hooks.mark_dirty(self)
            else:
                self.counts["nacked"] += 1
                # A nacked id is dead: no late ack or receipt-modack may undo the nack (google-cloud-go#10707).
                lease.ack_id = ""
                self._failed(lease)
                is_nacked = True
        if is_nacked:
            self._wake()
        return failures

    # ---- deliveries that failed ----

    def _lease_expired(self, lease: Lease) -> None:
        self.counts["expired"] += 1
        self._failed(lease)
        self._wake()

    def _failed(self, lease: Lease) -> None:
        """Nacked or expired: dead-letter it, or hand it out again now or after its backoff."""
        seq = lease.seq
        self._release(lease)
        failures = self.failures.get(seq, 0) + 1
        if self.settings.dead_letter_topic or self.settings.retry is not None:
            self.failures[seq] = failures
        if self.settings.dead_letter_topic:
            if failures >= self.settings.max_delivery_attempts and self._hooks.dead_letter(self, seq, failures):
                return
            self.new_failures[seq] = failures
            self._hooks.mark_dirty(self)
        delay_s = self.settings.retry.delay_s(failures) if self.settings.retry is not None else 0.0
        self._give_back(lease, delay_s)

    def dead_lettered(self, seq: int) -> None:
        """The message is on its way to the dead-letter topic, in the same batch as this ack."""
        self.counts["dead_lettered"] += 1
        lease = self.leases.by_seq.get(seq)
        if lease is not None:
            self.leases.end(lease)
            if lease.queue is not None:
                self._keys.remove(lease)
        self._forget(seq)

    def _give_back(self, lease: Lease, delay_s: float) -> None:
        queue = lease.queue
        if queue is None:
            lease.state = LeaseState.RETURNED
            if delay_s > 0:
                self._delayed.add(delay_s, lease.seq)
            else:
                heapq.heappush(self._returned, lease.seq)
            return
        for back in self._keys.rewind(lease):
            self._release(back)
            self.leases.end(back)
        if delay_s > 0:
            queue.is_parked = True
            self._delayed.add(delay_s, queue)
        self._keys.settle(queue)
        ring(self._keys.list_ready(queue))

    def _delays_over(self, items: list[int | KeyQueue]) -> None:
        for item in items:
            if isinstance(item, KeyQueue):
                item.is_parked = False
                self._keys.settle(item)
                ring(self._keys.list_ready(item))
            else:
                heapq.heappush(self._returned, item)
        self._wake()
