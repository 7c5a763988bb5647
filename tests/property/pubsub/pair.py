"""The broker and the model side by side: each thing done to the one is told to the other, and each answer is checked."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from google.pubsub_v1 import types
from hypothesis.stateful import RuleBasedStateMachine

from tests.property.pubsub.debts import Config, Message, Status, Topic
from tests.property.pubsub.drivers import Driver, Refused
from tests.property.pubsub.model import Subscription, World
from tests.support.waiting import wait_until

TOPIC = "projects/p/topics/births"
DEAD = "projects/p/topics/dead"
STREAM_DEADLINE_S = 60
LIVENESS_LIMIT_S = 3.0

Bodies = list[tuple[dict[str, str], str]]
"""Attributes and ordering key of each message to publish."""


class Pair(RuleBasedStateMachine):
    """One broker and its model, without rules of its own."""

    start: Callable[[asyncio.AbstractEventLoop], Driver]
    loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        super().__init__()
        self.driver = type(self).start(self.loop)
        self.world = World(self.driver.now_s())
        self.count = 0
        self.steps = 0
        self.disturbed_at = 0
        self.story: list[str] = []
        self.stale_ids: list[str] = []

    def call(self, method: str, request: Any) -> Any:
        """A unary call, kept for the story that is told if a promise breaks."""
        self.story.append(f"{method} {str(request).replace(chr(10), ' ')[:300]}")
        return self.driver.call(method, request)

    def make_topic(self, name: str) -> None:
        self.call("CreateTopic", types.Topic.pb()(name=name))
        self.world.topics[name] = Topic(name)

    def make_subscription(self, name: str, topic: str, config: Config) -> None:
        request = types.Subscription.pb()(
            name=name,
            topic=topic,
            ack_deadline_seconds=int(config.ack_deadline_s),
            enable_message_ordering=config.is_ordered,
            enable_exactly_once_delivery=config.is_exactly_once,
            filter=config.filter,
            retain_acked_messages=config.retains_acked,
        )
        request.message_retention_duration.seconds = int(config.retention_s)
        if config.dead_letter_topic:
            request.dead_letter_policy.dead_letter_topic = config.dead_letter_topic
            request.dead_letter_policy.max_delivery_attempts = config.max_attempts
        if config.retry:
            request.retry_policy.minimum_backoff.seconds = int(config.retry[0])
            request.retry_policy.maximum_backoff.seconds = int(config.retry[1])
        self.call("CreateSubscription", request)
        subscription = Subscription(name, self.world.topics[topic], config, self.world)
        self.world.topics[topic].subscriptions.append(subscription)
        self.world.subscriptions[name] = subscription

    def move(self, seconds: float) -> None:
        self.story.append(f"advance {seconds} s")
        self.driver.advance(seconds)
        self.world.move(self.driver.now_s())

    def pick(self, which: int) -> Subscription:
        subscriptions = list(self.world.subscriptions.values())
        return subscriptions[which % len(subscriptions)]

    def receive(self, subscription: Subscription, received: list[Any], deadline_s: float | None = None) -> int:
        """Hand a broker's answer to the model."""
        self.world.move(self.driver.now_s())
        seen = [
            (
                item.ack_id,
                Message(
                    item.message.data,
                    dict(item.message.attributes),
                    item.message.ordering_key,
                    0.0,
                    item.message.message_id,
                ),
                item.delivery_attempt,
            )
            for item in received
        ]
        story = [(message.data, message.message_id, ack_id, attempt) for ack_id, message, attempt in seen]
        self.story.append(f"  {subscription.name} got {story}")
        subscription.delivered(seen, deadline_s)
        return len(seen)

    def pull_once(self, subscription: Subscription, count: int) -> int:
        request = types.PullRequest.pb()(subscription=subscription.name, max_messages=count, return_immediately=True)
        response = self.call("Pull", request)
        assert len(response.received_messages) <= count
        return self.receive(subscription, list(response.received_messages))

    def pull_what_must_come(self, subscription: Subscription, count: int) -> int:
        """Pull until so many have come, or all that must be available; one pull may bring less than there is."""
        self.world.move(self.driver.now_s())
        received = 0
        while received < count:
            left, expected = count - received, subscription.surely_available()
            if expected is None:
                return received + self.pull_once(subscription, left)
            received += wait_until(
                lambda left=left: self.pull_once(subscription, left),  # type: ignore[misc]
                LIVENESS_LIMIT_S,
                f"{subscription.name} owes {expected.message.data!r}, yet a pull",
            )
        return received

    def refusal(self, method: str, request: Any) -> Refused | None:
        """Call; what it was refused with, if it was."""
        try:
            self.call(method, request)
        except Refused as refused:
            return refused
        return None

    def answer(self, subscription: Subscription, ack_ids: list[str], seconds: int | None) -> None:
        """Acknowledge, or set a deadline, and tell the model how it was answered."""
        if seconds is None:
            request = types.AcknowledgeRequest.pb()(subscription=subscription.name, ack_ids=ack_ids)
        else:
            request = types.ModifyAckDeadlineRequest.pb()(
                subscription=subscription.name, ack_ids=ack_ids, ack_deadline_seconds=seconds
            )
        refused = self.refusal("Acknowledge" if seconds is None else "ModifyAckDeadline", request)
        reasons = refused.reasons if refused else {}
        if refused:
            assert subscription.config.is_exactly_once, refused
            assert reasons, refused
            assert set(reasons) <= set(ack_ids), refused
        self.world.move(self.driver.now_s())
        for ack_id in ack_ids:
            if seconds is None:
                subscription.acked(ack_id, reasons.get(ack_id))
            else:
                subscription.modified(ack_id, seconds, reasons.get(ack_id))

    def publish_all(self, bodies: Bodies) -> None:
        topic = self.world.topics.get(TOPIC)
        key = bodies[0][1]  # the service takes one ordering key a request
        messages = []
        for attributes, _ in bodies:
            self.count += 1
            messages.append(Message(b"m%d" % self.count, attributes, key, 0.0))
        pb = types.PubsubMessage.pb()
        request = types.PublishRequest.pb()(
            topic=TOPIC,
            messages=[pb(data=item.data, attributes=item.attributes, ordering_key=item.key) for item in messages],
        )
        if topic is None:
            with pytest.raises(Refused, match="NOT_FOUND"):
                self.call("Publish", request)
            return
        response = self.call("Publish", request)
        assert len(set(response.message_ids)) == len(messages)
        for message, message_id in zip(messages, response.message_ids, strict=True):
            message.message_id = message_id
            message.published_s = self.driver.now_s()
        self.world.publish(topic, messages)

    def take_turn(self, bodies: Bodies, which: int, count: int, fates: list[str]) -> None:
        """A worker's turn: of what it gets it acks some, nacks some, and asks for more time for the rest."""
        if bodies:
            self.publish_all(bodies)
        subscription = self.pick(which)
        if subscription.is_detached:
            return
        self.pull_what_must_come(subscription, count)
        ack_ids = [debt.lease.ack_id for debt in subscription.debts if debt.lease]
        for fate, seconds in (("A", None), ("E", 30), ("S", 60), ("S", 10), ("N", 0)):  # S: longer, then shorter
            chosen = [ack_id for place, ack_id in enumerate(ack_ids) if fates[place % len(fates)] == fate]
            if chosen:
                self.answer(subscription, chosen, seconds)

    def some_ids(self, subscription: Subscription, picks: list[int], *, is_newest: bool) -> list[str]:
        leased = [debt.lease.ack_id for debt in subscription.debts if debt.lease]
        source = leased if is_newest else subscription.used_ack_ids
        return list(dict.fromkeys(source[pick % len(source)] for pick in picks)) if source else []

    def of_births(self, which: int) -> Subscription | None:
        """A subscription with whose topic snapshots and seeks are tried; dead letters have no known publish time."""
        subscription = self.pick(which)
        return None if subscription.topic.name == DEAD or subscription.is_detached else subscription

    def leave(self, subscription: Subscription) -> None:
        if subscription in subscription.topic.subscriptions:
            subscription.topic.subscriptions.remove(subscription)
        self.world.forget_burials(subscription)

    def drain(self) -> None:
        for _ in range(12):
            for subscription in self.world.subscriptions.values():
                while not subscription.is_detached and self.pull_what_must_come(subscription, 100):
                    self.ack_leased(subscription)
                self.ack_leased(subscription)
            if self.driver.moves_time:
                self.move(STREAM_DEADLINE_S + 1)
        owed = [
            (subscription.name, debt)
            for subscription in self.world.subscriptions.values()
            for debt in subscription.debts
            if debt.status == Status.OWED and subscription.is_retained(debt)
        ]
        assert not owed or not self.driver.moves_time, f"never delivered: {owed}"
        if not owed:
            assert self.world.vanished_letters() == []

    def ack_leased(self, subscription: Subscription) -> None:
        ack_ids = [debt.lease.ack_id for debt in subscription.debts if debt.lease]
        if ack_ids and not subscription.is_detached:
            self.answer(subscription, ack_ids, None)
