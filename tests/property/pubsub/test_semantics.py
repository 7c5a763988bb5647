"""The broker against the model, over long random histories with time moved, restarts and kills among them.

`PUBSUB_HISTORIES=2000` runs more of them. A history that breaks a promise is printed with its seed; with PUBSUB_SEED set to
that and PUBSUB_SHRINK=1, Hypothesis looks for the shortest such history, which takes minutes.
"""

import asyncio
import os
import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from google.pubsub_v1 import types
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.property.pubsub.drivers import Driver, InProcess, OwnProcess, Refused
from tests.property.pubsub.model import Config, Message, Status, Subscription, Topic, World
from tests.support.waiting import wait_until

SEED = int(os.environ.get("PUBSUB_SEED", random.SystemRandom().randrange(2**32)))
PHASES = (Phase.generate, Phase.shrink) if os.environ.get("PUBSUB_SHRINK") else (Phase.generate,)
HISTORIES = int(os.environ.get("PUBSUB_HISTORIES", "60"))
_STREAM_DEADLINE_S = 60
_LIVENESS_LIMIT_S = 3.0

Matches = Callable[[Mapping[str, str]], bool]
FILTERS: dict[str, Matches] = {
    "": lambda attributes: True,
    'attributes.kind = "a"': lambda attributes: attributes.get("kind") == "a",
    'attributes.kind != "a"': lambda attributes: attributes.get("kind") != "a",
    'attributes:extra OR hasPrefix(attributes.kind, "b")': lambda attributes: (
        "extra" in attributes or attributes.get("kind", "").startswith("b")
    ),
    "NOT attributes:extra": lambda attributes: "extra" not in attributes,
}
ATTRIBUTES = st.sampled_from(({}, {"kind": "a"}, {"kind": "bb"}, {"kind": "a", "extra": ""}))
KEYS = st.sampled_from(("", "", "k1", "k2"))
WHICH = st.integers(0, 5)
BODIES = st.lists(st.tuples(ATTRIBUTES, KEYS), max_size=6)
TURN: dict[str, st.SearchStrategy[Any]] = {
    "bodies": BODIES,
    "which": WHICH,
    "count": st.sampled_from((2, 5, 100)),
    "fates": st.lists(st.sampled_from("ANE"), min_size=1, max_size=6),
}
DEAD = "projects/p/topics/dead"


def configs(*, moves_time: bool) -> st.SearchStrategy[Config]:
    """Subscriptions of every kind; those whose rules take minutes only where time can be moved."""
    backoffs = (None, None, (1.0, 8.0)) if moves_time else (None,)
    return st.builds(
        lambda filter_, **rest: Config(filter=filter_, matches=FILTERS[filter_], **rest),
        filter_=st.sampled_from(["", "", *FILTERS]),
        is_ordered=st.booleans(),
        is_exactly_once=st.booleans(),
        dead_letter_topic=st.sampled_from(("", "", DEAD)),
        retry=st.sampled_from(backoffs),
        retention_s=st.sampled_from((7 * 86_400, 600)),
        retains_acked=st.booleans(),
        ack_deadline_s=st.just(10 if moves_time else 60),
    )


class Histories(RuleBasedStateMachine):
    """One random history of one broker and its model."""

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

    @initialize(config=st.data())
    def create_the_first(self, config: st.DataObject) -> None:
        self.make_topic("projects/p/topics/births")
        self.make_topic(DEAD)
        self.make_subscription("projects/p/subscriptions/sub-dead", DEAD, Config())
        for number in range(2):
            chosen = config.draw(configs(moves_time=self.driver.moves_time))
            self.make_subscription(f"projects/p/subscriptions/sub-{number}", "projects/p/topics/births", chosen)

    @invariant()
    def count_steps(self) -> None:
        self.steps += 1

    def may_disturb(self) -> bool:
        """What destroys much (a topic, a process) comes seldom, so that there is something to destroy."""
        return self.steps - self.disturbed_at > 8

    # ---- helpers ----

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
        """Pull; what must be available comes, at the latest after a moment."""
        self.world.move(self.driver.now_s())
        expected = subscription.surely_available()
        received = self.pull_once(subscription, count)
        if expected is not None and not received:
            wait_until(
                lambda: self.pull_once(subscription, count),
                _LIVENESS_LIMIT_S,
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

    # ---- what publishers do ----

    @rule(bodies=st.lists(st.tuples(ATTRIBUTES, KEYS), min_size=1, max_size=6))
    def publish(self, bodies: list[tuple[dict[str, str], str]]) -> None:
        self.publish_all(bodies)

    def publish_all(self, bodies: list[tuple[dict[str, str], str]]) -> None:
        topic = self.world.topics.get("projects/p/topics/births")
        key = bodies[0][1]  # the service takes one ordering key a request
        messages = []
        for attributes, _ in bodies:
            self.count += 1
            messages.append(Message(b"m%d" % self.count, attributes, key, 0.0))
        pb = types.PubsubMessage.pb()
        request = types.PublishRequest.pb()(
            topic="projects/p/topics/births",
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

    # ---- what subscribers do ----

    @rule(which=WHICH, count=st.sampled_from((1, 2, 5, 100)))
    def pull(self, which: int, count: int) -> None:
        subscription = self.pick(which)
        if subscription.is_detached:
            with pytest.raises(Refused, match="FAILED_PRECONDITION"):
                self.pull_once(subscription, count)
            return
        self.pull_what_must_come(subscription, count)

    @rule(which=WHICH, count=st.sampled_from((1, 3)))
    def stream(self, which: int, count: int) -> None:
        """A stream that reads a little and is cancelled: what it had been sent may be leased to nobody for a while."""
        subscription = self.pick(which)
        if subscription.is_detached:
            return
        self.world.move(self.driver.now_s())
        expected = subscription.surely_available()
        request = types.StreamingPullRequest.pb()(
            subscription=subscription.name,
            stream_ack_deadline_seconds=_STREAM_DEADLINE_S,
            max_outstanding_messages=count,
        )
        received = self.driver.stream(request, count, _LIVENESS_LIMIT_S if expected else 0.01)
        assert expected is None or received, (
            f"{subscription.name} owes {expected.message.data!r}, yet a stream got nothing"
        )
        assert len(received) <= count, "more than max_outstanding_messages"
        self.receive(subscription, received, _STREAM_DEADLINE_S)
        for debt in subscription.debts:
            if debt.lease is None:
                debt.surely_from_s = max(debt.surely_from_s, self.world.now_s + _STREAM_DEADLINE_S)
                debt.failures_high += 1

    @rule(which=WHICH, picks=st.lists(st.integers(0, 20), min_size=1, max_size=6, unique=True), is_newest=st.booleans())
    def ack(self, which: int, picks: list[int], is_newest: bool) -> None:
        subscription = self.pick(which)
        ack_ids = self.some_ids(subscription, picks, is_newest=is_newest)
        if ack_ids and not subscription.is_detached:
            self.answer(subscription, ack_ids, None)

    @rule(
        which=WHICH,
        picks=st.lists(st.integers(0, 20), min_size=1, max_size=6, unique=True),
        seconds=st.sampled_from((0, 0, 10, 60)),
        is_newest=st.booleans(),
    )
    def modify(self, which: int, picks: list[int], seconds: int, is_newest: bool) -> None:
        subscription = self.pick(which)
        ack_ids = self.some_ids(subscription, picks, is_newest=is_newest)
        if ack_ids and not subscription.is_detached:
            self.answer(subscription, ack_ids, seconds)

    def take_turn(self, bodies: list[tuple[dict[str, str], str]], which: int, count: int, fates: list[str]) -> None:
        """A worker's turn: of what it gets it acks some, nacks some, and asks for more time for the rest."""
        if bodies:
            self.publish_all(bodies)
        subscription = self.pick(which)
        if subscription.is_detached:
            return
        self.pull_what_must_come(subscription, count)
        ack_ids = [debt.lease.ack_id for debt in subscription.debts if debt.lease]
        for fate, seconds in (("A", None), ("E", 30), ("N", 0)):
            chosen = [ack_id for place, ack_id in enumerate(ack_ids) if fates[place % len(fates)] == fate]
            if chosen:
                self.answer(subscription, chosen, seconds)

    @rule(**TURN)
    def work(self, bodies: list[tuple[dict[str, str], str]], which: int, count: int, fates: list[str]) -> None:
        self.take_turn(bodies, which, count, fates)

    # Hypothesis switches rules off at random: there are several names for the turns that make the most of a history.
    @rule(**TURN)
    def work_on(self, bodies: list[tuple[dict[str, str], str]], which: int, count: int, fates: list[str]) -> None:
        self.take_turn(bodies, which, count, fates)

    @rule(**TURN)
    def work_more(self, bodies: list[tuple[dict[str, str], str]], which: int, count: int, fates: list[str]) -> None:
        self.take_turn(bodies, which, count, fates)

    @rule(bodies=BODIES, which=WHICH, times=st.integers(1, 7))
    def nack_all(self, bodies: list[tuple[dict[str, str], str]], which: int, times: int) -> None:
        """Pull and nack several times over: this is how messages get to their dead-letter topic."""
        if bodies:
            self.publish_all(bodies)
        subscription = self.pick(which)
        for _ in range(times if not subscription.is_detached else 0):
            self.pull_what_must_come(subscription, 100)
            ack_ids = [debt.lease.ack_id for debt in subscription.debts if debt.lease]
            if ack_ids:
                self.answer(subscription, ack_ids, 0)

    def some_ids(self, subscription: Subscription, picks: list[int], *, is_newest: bool) -> list[str]:
        leased = [debt.lease.ack_id for debt in subscription.debts if debt.lease]
        source = leased if is_newest else subscription.used_ack_ids
        return list(dict.fromkeys(source[pick % len(source)] for pick in picks)) if source else []

    @rule(picks=st.integers(0, 20), which=WHICH)
    def ack_id_of_a_deleted_subscription(self, picks: int, which: int) -> None:
        """An ack id from before a subscription was deleted touches nothing of the one that has its name now."""
        subscription = self.pick(which)
        if not self.stale_ids or subscription.is_detached:
            return
        ack_id = self.stale_ids[picks % len(self.stale_ids)]
        request = types.AcknowledgeRequest.pb()(subscription=subscription.name, ack_ids=[ack_id])
        refused = self.refusal("Acknowledge", request)
        assert refused is None or refused.code == "INVALID_ARGUMENT", refused

    # ---- seek and snapshots ----

    def of_births(self, which: int) -> Subscription | None:
        """A subscription with whose topic snapshots and seeks are tried; dead letters have no known publish time."""
        subscription = self.pick(which)
        return None if subscription.topic.name == DEAD or subscription.is_detached else subscription

    @precondition(lambda self: self.driver.moves_time)
    @rule(which=WHICH, back=st.integers(0, 12))
    def seek_to_time(self, which: int, back: int) -> None:
        subscription = self.of_births(which)
        if subscription is None:
            return
        times = [self.world.now_s, *(message.published_s for message in reversed(subscription.topic.log))]
        time_s = times[back % len(times)]
        request = types.SeekRequest.pb()(subscription=subscription.name)
        request.time.FromMicroseconds(round(time_s * 1e6))
        self.call("Seek", request)
        self.world.sought_time(subscription, time_s)

    @rule(which=WHICH, name=st.sampled_from(("one", "two")))
    def create_snapshot(self, which: int, name: str) -> None:
        subscription = self.of_births(which)
        if subscription is None:
            return
        path = f"projects/p/snapshots/snap-{name}"
        if path in self.world.snapshots:
            self.call("DeleteSnapshot", types.DeleteSnapshotRequest.pb()(snapshot=path))
            del self.world.snapshots[path]
        request = types.CreateSnapshotRequest.pb()(name=path, subscription=subscription.name)
        self.call("CreateSnapshot", request)
        self.world.snapshot(path, subscription)

    @rule(which=WHICH, name=st.sampled_from(("one", "two")))
    def seek_to_snapshot(self, which: int, name: str) -> None:
        subscription = self.of_births(which)
        snapshot = self.world.snapshots.get(f"projects/p/snapshots/snap-{name}")
        if subscription is None or snapshot is None:
            return
        request = types.SeekRequest.pb()(subscription=subscription.name, snapshot=f"projects/p/snapshots/snap-{name}")
        if snapshot.topic is not subscription.topic:
            with pytest.raises(Refused, match="FAILED_PRECONDITION"):
                self.call("Seek", request)
            return
        self.call("Seek", request)
        self.world.sought_snapshot(subscription, snapshot)

    # ---- resources that come and go ----

    @precondition(lambda self: len(self.world.subscriptions) < 4 and "projects/p/topics/births" in self.world.topics)
    @rule(config=st.data(), number=st.integers(0, 2))
    def create_subscription(self, config: st.DataObject, number: int) -> None:
        name = f"projects/p/subscriptions/sub-{number}"
        if name not in self.world.subscriptions:
            chosen = config.draw(configs(moves_time=self.driver.moves_time))
            if chosen.dead_letter_topic and chosen.dead_letter_topic not in self.world.topics:
                chosen = replace(chosen, dead_letter_topic="")
            self.make_subscription(name, "projects/p/topics/births", chosen)

    @precondition(lambda self: self.may_disturb())
    @rule(which=WHICH)
    def delete_subscription(self, which: int) -> None:
        subscription = self.pick(which)
        if subscription.topic.name == DEAD:
            return
        self.disturbed_at = self.steps
        self.call("DeleteSubscription", types.DeleteSubscriptionRequest.pb()(subscription=subscription.name))
        self.leave(subscription)
        self.stale_ids += subscription.used_ack_ids
        del self.world.subscriptions[subscription.name]

    @precondition(lambda self: self.may_disturb())
    @rule(which=WHICH)
    def detach(self, which: int) -> None:
        subscription = self.pick(which)
        if subscription.topic.name == DEAD:
            return
        self.disturbed_at = self.steps
        request = types.DetachSubscriptionRequest.pb()(subscription=subscription.name)
        self.call("DetachSubscription", request)
        self.leave(subscription)
        subscription.is_detached = True
        subscription.debts.clear()

    def leave(self, subscription: Subscription) -> None:
        if subscription in subscription.topic.subscriptions:
            subscription.topic.subscriptions.remove(subscription)
        self.world.forget_burials(subscription)

    @precondition(lambda self: self.may_disturb())
    @rule(name=st.sampled_from(("projects/p/topics/births", DEAD)))
    def delete_topic(self, name: str) -> None:
        """A deleted topic leaves its subscriptions their backlog."""
        if self.world.topics.pop(name, None):
            self.call("DeleteTopic", types.DeleteTopicRequest.pb()(topic=name))
            self.disturbed_at = self.steps

    @precondition(lambda self: len(self.world.topics) < 2)
    @rule()
    def create_topic(self) -> None:
        """One of the same name is another topic."""
        for name in {"projects/p/topics/births", DEAD} - set(self.world.topics):
            self.make_topic(name)

    # ---- time, and the end of processes ----

    @precondition(lambda self: self.driver.moves_time)
    @rule(seconds=st.sampled_from((0.5, 1, 5, 10, 11, 61, 400)))
    def advance(self, seconds: float) -> None:
        self.story.append(f"advance {seconds} s")
        self.driver.advance(seconds)
        self.world.move(self.driver.now_s())

    @precondition(lambda self: self.may_disturb())
    @rule()
    def restart(self) -> None:
        self.disturbed_at = self.steps
        self.story.append("restart")
        self.driver.restart()
        self.world.restarted(is_killed=False)

    @precondition(lambda self: self.may_disturb())
    @rule()
    def kill(self) -> None:
        self.disturbed_at = self.steps
        self.story.append("kill")
        self.driver.kill()
        self.world.restarted(is_killed=True)

    # ---- the end ----

    def teardown(self) -> None:
        """Everything owed comes in the end, and then nothing more."""
        try:
            if sys.exc_info()[0] is None:  # a broken history is not gone on with
                self.drain()
        except AssertionError:
            print("\n".join(self.story))
            raise
        else:
            if isinstance(sys.exc_info()[1], (AssertionError, Refused)):
                print("\n".join(self.story))
        finally:
            self.driver.close()

    def drain(self) -> None:
        for _ in range(12):
            for subscription in self.world.subscriptions.values():
                while not subscription.is_detached and self.pull_what_must_come(subscription, 100):
                    self.ack_leased(subscription)
                self.ack_leased(subscription)
            if self.driver.moves_time:
                self.advance(_STREAM_DEADLINE_S + 1)
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


class MovedTime(Histories):
    start = InProcess


class RealKills(Histories):
    start = OwnProcess


def _run(machine: type[Histories], histories: int, steps: int) -> None:
    print(f"PUBSUB_SEED={SEED}")
    with asyncio.Runner() as runner:
        machine.loop = runner.get_loop()
        run_state_machine_as_test(
            seed(SEED)(machine),
            settings=settings(
                max_examples=histories,
                stateful_step_count=steps,
                deadline=None,
                database=None,
                phases=PHASES,
                suppress_health_check=list(HealthCheck),
                print_blob=True,
            ),
        )


def test_broker_keeps_its_promises_over_random_histories() -> None:
    """Whatever clients do, whenever time moves and the broker stops or dies: what must come comes, nothing else does."""
    _run(MovedTime, HISTORIES, 80)


def test_broker_keeps_its_promises_when_its_process_is_killed() -> None:
    """The same with a real process and a real SIGKILL."""
    _run(RealKills, max(3, HISTORIES // 20), 40)
