"""What Pub/Sub promises, as a model: for each subscription and message, whether it must come, may come or must not.

It says what is allowed, not how our broker does it. Where the service promises little, so does the model: a late ack may or
may not count, a kill may undo acks that were not exactly-once, a restart may end leases early. What is observed settles
what was open. Sources: the comments of google/pubsub/v1/pubsub.proto and cloud.google.com/pubsub/docs.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tests.property.pubsub.debts import Config, Debt, Lease, Message, Snapshot, Status, Topic

UNORDERED = "TRANSIENT_FAILURE_UNORDERED_ACK_ID"


@dataclass(eq=False)
class Subscription:
    """One subscription: the rules of delivery, ack and expiry."""

    name: str
    topic: Topic
    config: Config
    world: "World"
    debts: list[Debt] = field(default_factory=list)
    used_ack_ids: list[str] = field(default_factory=list)
    is_detached: bool = False
    older: set[Message] = field(init=False)
    """Published before the subscription was made: only another subscription's snapshot can make it owe them."""

    def __post_init__(self) -> None:
        self.older = set(self.topic.log)

    # ---- messages ----

    def add(self, message: Message, status: Status = Status.OWED) -> Debt | None:
        """A new message of the topic; None if the filter refuses it."""
        if self.is_detached or not self.config.matches(message.attributes):
            return None
        debt = Debt(message, status)
        self.debts.append(debt)
        return debt

    def of_key(self, debt: Debt) -> list[Debt]:
        """The debts bound to this one by order: all of its key in publish order, or itself alone."""
        if not (self.config.is_ordered and debt.message.key):
            return [debt]
        return [other for other in self.debts if other.message.key == debt.message.key]

    def before(self, debt: Debt) -> Iterator[Debt]:
        """Earlier messages of its key."""
        for other in self.of_key(debt):
            if other is debt:
                return
            yield other

    def after(self, debt: Debt) -> list[Debt]:
        """Later messages of its key."""
        chain = self.of_key(debt)
        return chain[chain.index(debt) + 1 :]

    def is_retained(self, debt: Debt) -> bool:
        """Whether the message is younger than the retention."""
        return self.world.now_s <= debt.message.published_s + self.config.retention_s

    # ---- what a reader sees ----

    def delivered(self, received: Iterable[tuple[str, Message, int]], deadline_s: float | None = None) -> None:
        """Check one answer, (ack id, message, delivery attempt) each, and remember the leases.

        Raises:
            AssertionError: the promise that was broken.
        """
        now_s = self.world.now_s
        for ack_id, message, attempt in received:
            debt = self._find(message)
            where = f"{self.name} delivered {message.data!r} (id {message.message_id})"
            assert debt.status not in (Status.DONE, Status.PENDING), f"{where}, but {debt.status.value}"
            assert debt.lease is None or not debt.lease.is_firm, f"{where} while it is leased until {debt.lease}"
            assert now_s >= debt.not_before_s, f"{where} {debt.not_before_s - now_s:g} s before its backoff is over"
            assert self.is_retained(debt), f"{where} after its retention"
            for other in self.before(debt):
                is_skipped = other.status == Status.OWED and other.lease is None and self.is_retained(other)
                assert not is_skipped, f"{where} before the earlier {other.message.data!r} of its key"
            assert ack_id not in self.used_ack_ids, f"{where} under the used ack id {ack_id}"
            self._check_attempt(debt, attempt, where)
            debt.status = Status.OWED
            debt.deliveries += 1
            debt.lease = Lease(ack_id, now_s + (deadline_s or self.config.ack_deadline_s))
            self.used_ack_ids.append(ack_id)
            self.world.debt_of_ack_id[ack_id] = debt

    def _find(self, message: Message) -> Debt:
        debt = next((debt for debt in self.debts if debt.message.message_id == message.message_id), None)
        if debt is None:
            debt = self._unseen_letter(message)
            assert debt is not None, f"{self.name} delivered {message}, which it was never owed"
            debt.message.message_id = message.message_id
            debt.message.attributes = message.attributes
        expected = (debt.message.data, debt.message.attributes, debt.message.key)
        assert (message.data, message.attributes, message.key) == expected, f"{message} was published as {expected}"
        return debt

    def _unseen_letter(self, message: Message) -> Debt | None:
        """The dead letter that this must be, one that is owed before one that merely may exist."""
        letters = [
            debt
            for debt in self.debts
            if not debt.message.message_id
            and debt.message.data == message.data
            and debt.message.attributes.items() <= message.attributes.items()
        ]
        return min(letters, key=lambda debt: debt.status != Status.OWED, default=None)

    def _check_attempt(self, debt: Debt, attempt: int, where: str) -> None:
        if not self.config.dead_letter_topic:
            assert attempt == 0, f"{where} as attempt {attempt}, but there is no dead-letter policy"
            return
        low, high = debt.failures_low + 1, debt.failures_high + 1
        assert low <= attempt <= high, f"{where} as attempt {attempt}, not {low} to {high}"
        debt.failures_low = debt.failures_high = attempt - 1

    def surely_available(self) -> Debt | None:
        """A message which a reader must be able to get now, if there is one."""
        return next((debt for debt in self.debts if self._is_surely_available(debt)), None)

    def _is_surely_available(self, debt: Debt) -> bool:
        if debt.status != Status.OWED or debt.lease or not self.is_retained(debt):
            return False
        bound = [*(other for other in self.before(debt) if other.status != Status.DONE), debt]
        now_s = self.world.now_s
        return all(other.lease is None and now_s >= other.surely_from_s for other in bound)

    # ---- what a reader answers ----

    def acked(self, ack_id: str, refusal: str | None) -> None:
        """An ack was answered; `refusal` is its reason with exactly-once, None for success."""
        debt = self._by_ack_id(ack_id)
        is_firm = debt is not None and debt.lease is not None and debt.lease.is_firm
        if self.config.is_exactly_once and debt is not None and refusal is not None:
            is_early = any(other.status != Status.DONE for other in self.before(debt))
            assert not is_firm or (refusal == UNORDERED and is_early), (
                f"{self.name} refused the good {ack_id}: {refusal}"
            )
            return
        if debt is None:
            self._acked_late(ack_id)
            return
        if not is_firm and not self.config.is_exactly_once:
            debt.status = Status.MAYBE if debt.status != Status.DONE else Status.DONE
            return
        debt.lease = None
        debt.is_durable = self.config.is_exactly_once
        debt.status = Status.PENDING
        self._settle_key(debt)

    def _acked_late(self, ack_id: str) -> None:
        """An id that is not its message's newest: without exactly-once it may count, and so may it not."""
        debt = self.world.debt_of_ack_id.get(ack_id)
        if debt is not None and not self.config.is_exactly_once and debt.status == Status.OWED:
            debt.status = Status.MAYBE

    def _settle_key(self, debt: Debt) -> None:
        for other in self.of_key(debt):
            if other.status == Status.PENDING:
                other.status = Status.DONE
                other.lease = None
            elif other.status != Status.DONE:
                return

    def modified(self, ack_id: str, seconds: float, refusal: str | None) -> None:
        """A new deadline was answered; 0 is a nack."""
        debt = self._by_ack_id(ack_id)
        if debt is None or debt.lease is None:
            return
        if not debt.lease.is_firm:
            debt.surely_from_s = max(debt.surely_from_s, self.world.now_s + seconds)
            debt.failures_high += seconds == 0
            return
        assert refusal is None, f"{self.name} refused a new deadline for the good {ack_id}: {refusal}"
        if seconds:
            debt.lease.deadline_s = self.world.now_s + seconds
        else:
            self.fail(debt, self.world.now_s)

    def _by_ack_id(self, ack_id: str) -> Debt | None:
        return next((debt for debt in self.debts if debt.lease and debt.lease.ack_id == ack_id), None)

    # ---- time ----

    def fail(self, debt: Debt, at_s: float, *, is_certain: bool = True) -> None:
        """A delivery was nacked, or its deadline has passed."""
        debt.lease = None
        debt.failures_high += 1
        debt.failures_low += is_certain
        minimum_s, maximum_s = self.config.retry or (0.0, 0.0)
        debt.not_before_s = at_s + minimum_s if is_certain else 0.0
        # Where the lease may have ended before, a deadline asked for since may count for another one of the same message.
        debt.surely_from_s = max(at_s + maximum_s, 0.0 if is_certain else debt.surely_from_s)
        for later in self.after(debt):
            if later.lease:
                later.lease.is_firm = False
                later.failures_high += 1
            if later.status == Status.PENDING:  # "redelivers all later messages of the key, even acked ones"
                later.status = Status.OWED if is_certain else Status.MAYBE
        self.world.bury_if_due(self, debt)

    def expire(self) -> None:
        """End the leases whose deadline has passed."""
        for debt in self.debts:
            lease = debt.lease
            if lease and lease.deadline_s <= self.world.now_s:
                self.fail(debt, lease.deadline_s, is_certain=lease.is_firm and debt.status == Status.OWED)

    def loosen(self) -> None:
        """Leases may have ended, backoffs too: after a restart, a seek, or a stream that broke off."""
        for debt in self.debts:
            debt.not_before_s = 0.0
            if debt.status == Status.PENDING:
                debt.status = Status.MAYBE
            if debt.lease:
                debt.lease.is_firm = False
                debt.failures_high += 1

    def set_status(self, debt: Debt, status: Status) -> None:
        """What a seek has made of it."""
        debt.status = status
        debt.is_durable = True
        debt.failures_low = 0


@dataclass(slots=True)
class World:
    """All topics, subscriptions and snapshots, and the time."""

    now_s: float
    topics: dict[str, Topic] = field(default_factory=dict)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    debt_of_ack_id: dict[str, Debt] = field(default_factory=dict)
    burials: list[tuple[Debt, int, list[Debt]]] = field(default_factory=list)
    """Dead letters: the debt, its deliveries until then, and its copies in the dead-letter topic's subscriptions."""
    settled_burials: int = 0

    def publish(self, topic: Topic, messages: Iterable[Message]) -> None:
        """A publish was answered."""
        for message in messages:
            topic.log.append(message)
            for subscription in topic.subscriptions:
                subscription.add(message)

    def move(self, now_s: float) -> None:
        """Time has moved."""
        self.now_s = now_s
        for subscription in self.subscriptions.values():
            subscription.expire()

    def bury_if_due(self, subscription: Subscription, debt: Debt) -> None:
        """Dead-letter a message that has failed often enough, for certain or perhaps."""
        target = self.topics.get(subscription.config.dead_letter_topic)
        if target is None or debt.failures_high < subscription.config.max_attempts or debt.status == Status.DONE:
            return
        is_certain = debt.failures_low >= subscription.config.max_attempts and debt.status == Status.OWED
        message = debt.message
        mark = {"CloudPubSubDeadLetterSourceSubscription": subscription.name.rpartition("/")[2]}
        letter = Message(message.data, message.attributes | mark, message.key, self.now_s)
        copies: list[Debt] = []
        for reader in target.subscriptions:
            copy = reader.add(letter, Status.OWED if is_certain else Status.MAYBE)
            copies += [copy] if copy else []
        debt.status = Status.DONE if is_certain else Status.MAYBE
        if is_certain:
            self.burials.append((debt, debt.deliveries, copies))

    def restarted(self, *, is_killed: bool) -> None:
        """The broker was stopped, or killed, and started on the same folder."""
        for subscription in self.subscriptions.values():
            subscription.loosen()
            for debt in subscription.debts:
                if not is_killed:
                    debt.is_durable = True
                    continue
                debt.failures_low = 0
                if debt.status == Status.DONE and not debt.is_durable:
                    debt.status = Status.MAYBE
        if is_killed:
            for debt, _, copies in self.burials[self.settled_burials :]:
                debt.status = Status.MAYBE
                for copy in copies:
                    copy.status = Status.MAYBE if copy.status == Status.OWED and not copy.deliveries else copy.status
        self.settled_burials = len(self.burials)

    def forget_burials(self, subscription: Subscription) -> None:
        """The subscription was sought, detached or deleted: what became of its dead letters can't be told any more."""
        gone = set(map(id, subscription.debts))
        self.burials = [
            (debt, before, copies)
            for debt, before, copies in self.burials
            if id(debt) not in gone and not any(id(copy) in gone for copy in copies)
        ]
        self.settled_burials = min(self.settled_burials, len(self.burials))

    def vanished_letters(self) -> list[Message]:
        """Messages that came neither again nor as a dead letter, once everything has been read."""
        return [
            debt.message
            for debt, before, copies in self.burials
            if copies and debt.deliveries == before and not any(copy.deliveries for copy in copies)
        ]

    # ---- seek ----

    def snapshot(self, name: str, subscription: Subscription) -> None:
        """A snapshot was created: of what its subscription no longer retains it need not know, whoever seeks to it."""
        statuses: dict[Message, Status] = {}
        for debt in subscription.debts:
            is_open = debt.status == Status.PENDING or not (
                debt.status == Status.DONE or subscription.is_retained(debt)
            )
            statuses[debt.message] = Status.MAYBE if is_open else debt.status
        self.snapshots[name] = Snapshot(subscription.topic, statuses, set(subscription.topic.log))

    def sought_time(self, subscription: Subscription, time_s: float) -> None:
        """A seek to a time was answered."""
        subscription.loosen()
        self.forget_burials(subscription)
        for debt in subscription.debts:
            if debt.message.published_s < time_s:
                subscription.set_status(debt, Status.DONE)
                debt.lease = None
            elif subscription.config.retains_acked and debt.message not in subscription.older:
                subscription.set_status(debt, Status.OWED)
            elif debt.status == Status.DONE:
                subscription.set_status(debt, Status.MAYBE)

    def sought_snapshot(self, subscription: Subscription, snapshot: Snapshot) -> None:
        """A seek to a snapshot was answered: unacked at its creation and all later messages are owed."""
        subscription.loosen()
        self.forget_burials(subscription)
        by_message = {debt.message: debt for debt in subscription.debts}
        debts: list[Debt] = []
        for message in snapshot.topic.log:
            if not subscription.config.matches(message.attributes):
                continue
            debt = by_message.get(message) or Debt(message)
            status = Status.OWED if message not in snapshot.known else snapshot.statuses.get(message, Status.MAYBE)
            subscription.set_status(debt, status)
            if status == Status.DONE:
                debt.lease = None
            debts.append(debt)
        subscription.debts = debts
