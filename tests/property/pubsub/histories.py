"""What may happen in a history: the rules by which Hypothesis plays publishers, subscribers, time and bad luck."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from google.pubsub_v1 import types
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from tests.property.pubsub.debts import Config
from tests.property.pubsub.drivers import InProcess, OwnProcess, Refused
from tests.property.pubsub.model import Subscription
from tests.property.pubsub.pair import DEAD, LIVENESS_LIMIT_S, STREAM_DEADLINE_S, TOPIC, Bodies, Pair

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
TURN: dict[str, Any] = {
    "bodies": BODIES,
    "which": WHICH,
    "count": st.sampled_from((2, 5, 100)),
    "fates": st.lists(st.sampled_from("ANES"), min_size=1, max_size=6),
}


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


class Histories(Pair):
    """One random history."""

    @initialize(config=st.data())
    def create_the_first(self, config: st.DataObject) -> None:
        self.make_topic(TOPIC)
        self.make_topic(DEAD)
        self.make_subscription("projects/p/subscriptions/sub-dead", DEAD, Config())
        for number in range(2):
            chosen = config.draw(configs(moves_time=self.driver.moves_time))
            self.make_subscription(f"projects/p/subscriptions/sub-{number}", TOPIC, chosen)

    @invariant()
    def count_steps(self) -> None:
        self.steps += 1

    def may_disturb(self) -> bool:
        """What destroys much (a topic, a process) comes seldom, so that there is something to destroy."""
        return self.steps - self.disturbed_at > 8

    # ---- what publishers do ----

    @rule(bodies=st.lists(st.tuples(ATTRIBUTES, KEYS), min_size=1, max_size=6))
    def publish(self, bodies: Bodies) -> None:
        self.publish_all(bodies)

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
            stream_ack_deadline_seconds=STREAM_DEADLINE_S,
            max_outstanding_messages=count,
        )
        received = self.driver.stream(request, count, LIVENESS_LIMIT_S if expected else 0.01)
        assert expected is None or received, (
            f"{subscription.name} owes {expected.message.data!r}, yet a stream got nothing"
        )
        assert len(received) <= count, "more than max_outstanding_messages"
        self.receive(subscription, received, STREAM_DEADLINE_S)
        for debt in subscription.debts:
            if debt.lease is None:
                debt.surely_from_s = max(debt.surely_from_s, self.world.now_s + STREAM_DEADLINE_S)
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

    @rule(**TURN)
    def work(self, bodies: Bodies, which: int, count: int, fates: list[str]) -> None:
        self.take_turn(bodies, which, count, fates)

    # Hypothesis switches rules off at random: there are several names for the turns that make the most of a history.
    @rule(**TURN)
    def work_on(self, bodies: Bodies, which: int, count: int, fates: list[str]) -> None:
        self.take_turn(bodies, which, count, fates)

    @rule(**TURN)
    def work_more(self, bodies: Bodies, which: int, count: int, fates: list[str]) -> None:
        self.take_turn(bodies, which, count, fates)

    @rule(bodies=BODIES, which=WHICH, times=st.integers(1, 7))
    def nack_all(self, bodies: Bodies, which: int, times: int) -> None:
        """Pull and nack several times over: this is how messages get to their dead-letter topic."""
        if bodies:
            self.publish_all(bodies)
        subscription = self.pick(which)
        for _ in range(times if not subscription.is_detached else 0):
            self.pull_what_must_come(subscription, 100)
            ack_ids = [debt.lease.ack_id for debt in subscription.debts if debt.lease]
            if ack_ids:
                self.answer(subscription, ack_ids, 0)

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
        if subscription is not None:
            self.create_snapshot_of(subscription, name)

    def create_snapshot_of(self, subscription: Subscription, name: str) -> None:
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
        if subscription is not None and f"projects/p/snapshots/snap-{name}" in self.world.snapshots:
            self.seek_snapshot(subscription, name)

    def seek_snapshot(self, subscription: Subscription, name: str) -> None:
        snapshot = self.world.snapshots[f"projects/p/snapshots/snap-{name}"]
        request = types.SeekRequest.pb()(subscription=subscription.name, snapshot=f"projects/p/snapshots/snap-{name}")
        if snapshot.topic is not subscription.topic:
            with pytest.raises(Refused, match="FAILED_PRECONDITION"):
                self.call("Seek", request)
            return
        self.call("Seek", request)
        self.world.sought_snapshot(subscription, snapshot)

    @precondition(lambda self: self.driver.moves_time)
    @rule(which=WHICH)
    def replay(self, which: int) -> None:
        """A snapshot, everything acked by everybody and cleared away, and back to the snapshot."""
        subscription = self.of_births(which)
        if subscription is None:
            return
        self.create_snapshot_of(subscription, "two")
        for other in self.world.subscriptions.values():
            while not other.is_detached and self.pull_what_must_come(other, 100):
                self.ack_leased(other)
        self.move(0.5)
        self.seek_snapshot(subscription, "two")

    # ---- resources that come and go ----

    @precondition(lambda self: len(self.world.subscriptions) < 4 and TOPIC in self.world.topics)
    @rule(config=st.data(), number=st.integers(0, 2))
    def create_subscription(self, config: st.DataObject, number: int) -> None:
        name = f"projects/p/subscriptions/sub-{number}"
        if name not in self.world.subscriptions:
            chosen = config.draw(configs(moves_time=self.driver.moves_time))
            if chosen.dead_letter_topic and chosen.dead_letter_topic not in self.world.topics:
                chosen = replace(chosen, dead_letter_topic="")
            self.make_subscription(name, TOPIC, chosen)

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

    @precondition(lambda self: self.may_disturb())
    @rule(name=st.sampled_from((TOPIC, DEAD)))
    def delete_topic(self, name: str) -> None:
        """A deleted topic leaves its subscriptions their backlog."""
        if self.world.topics.pop(name, None):
            self.call("DeleteTopic", types.DeleteTopicRequest.pb()(topic=name))
            self.disturbed_at = self.steps

    @precondition(lambda self: len(self.world.topics) < 2)
    @rule()
    def create_topic(self) -> None:
        """One of the same name is another topic."""
        for name in {TOPIC, DEAD} - set(self.world.topics):
            self.make_topic(name)

    # ---- time, and the end of processes ----

    @precondition(lambda self: self.driver.moves_time)
    @rule(seconds=st.sampled_from((0.5, 1, 5, 10, 11, 61, 400)))
    def advance(self, seconds: float) -> None:
        self.move(seconds)

    @precondition(lambda self: self.may_disturb())
    @rule()
    def restart(self) -> None:
        self.disturbed_at = self.steps
        self.story.append("restart")
        self.driver.restart()
        self.world.restarted(is_killed=False)

    @precondition(lambda self: self.may_disturb())
    @rule(bodies=BODIES, which=WHICH, count=st.sampled_from((1, 5, 100)))
    def kill(self, bodies: Bodies, which: int, count: int) -> None:
        """A kill right after an ack was answered."""
        self.take_turn(bodies, which, count, ["A"])
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


class MovedTime(Histories):
    start = InProcess


class RealKills(Histories):
    start = OwnProcess
