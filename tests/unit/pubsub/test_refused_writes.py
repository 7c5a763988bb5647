"""A disk that refuses a write: nothing is half done, and the broker goes on."""

import sqlite3
from contextlib import suppress

import pytest

from localcloud.pubsub.errors import NotFound, Unavailable
from tests.unit.pubsub.lab import SUBSCRIPTION, TOPIC, Lab

OTHER = "projects/p/topics/other"


@pytest.fixture
def full(lab: Lab) -> Lab:
    """A broker with a topic, a subscription and one message, whose disk is full from now on."""
    lab.subscribe(enable_exactly_once_delivery=True)
    lab.publish("kept")
    fill(lab)
    return lab


def fill(lab: Lab) -> None:
    pages = lab.store.read("PRAGMA page_count")[0][0]
    lab.store._writer.execute(f"PRAGMA max_page_count={pages}")


def free(lab: Lab) -> None:
    lab.store._writer.execute("PRAGMA max_page_count=1000000")


def test_refused_publish_is_unavailable_and_not_kept(full: Lab) -> None:
    """A publish that cannot be written is answered UNAVAILABLE with the mend, and nobody gets it."""
    with pytest.raises(Unavailable, match="free disk space"):
        full.publish("x" * 100_000)
    free(full)
    full.publish("later")
    assert full.data() == ["kept", "later"]


def test_refused_topic_does_not_exist(full: Lab) -> None:
    """A topic whose creation was refused is not there, and its name is free."""
    labels = {f"label-{index}": "x" * 60 for index in range(64)}
    created: list[str] = []
    with suppress(Unavailable):
        while len(created) < 1000:
            created.append(full.create_topic(f"{OTHER}-{len(created)}", labels=labels).name)
    assert len(created) < 1000
    free(full)
    assert set(full.broker.registry.topics) == {TOPIC, *created}
    full.create_topic(f"{OTHER}-{len(created)}")


def test_message_ids_stay_unique_after_a_refusal(full: Lab) -> None:
    """Ids given out around a refused write and a crash never repeat."""
    with pytest.raises(Unavailable):
        full.publish("x" * 100_000)
    free(full)
    seen = full.publish("a", "b")
    full.crash()
    seen += full.publish("c")
    assert len(set(seen)) == 3


def test_refused_delete_leaves_the_subscription(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a deletion cannot be committed, the subscription and its backlog are still there."""
    lab.subscribe()
    lab.publish("kept")

    class Broken:
        """A connection which refuses to begin."""

        in_transaction = False

        def execute(self, sql: str, *rest: object) -> object:
            if sql.startswith("BEGIN"):
                raise sqlite3.OperationalError("disk I/O error")
            return real.execute(sql, *rest)

        executemany = property(lambda self: real.executemany)
        close = property(lambda self: real.close)

    real = lab.store._writer
    monkeypatch.setattr(lab.store, "_writer", Broken())
    with pytest.raises(Unavailable, match="disk I/O error"):
        lab.call(lab.subscriber.delete_subscription, "DeleteSubscriptionRequest", subscription=SUBSCRIPTION)
    monkeypatch.undo()
    assert lab.data() == ["kept"]
    lab.call(lab.subscriber.delete_subscription, "DeleteSubscriptionRequest", subscription=SUBSCRIPTION)
    with pytest.raises(NotFound):
        lab.data()
    assert TOPIC in lab.broker.registry.topics


def test_ack_id_from_before_a_refusal_still_counts(lab: Lab) -> None:
    """The restart in place keeps no lease, yet an at-least-once reader may ack what it holds."""
    lab.subscribe()
    lab.publish("a", "b")
    taken = lab.take()
    fill(lab)
    with pytest.raises(Unavailable):
        lab.publish("x" * 100_000)
    free(lab)
    lab.ack(taken[0])
    assert lab.data() == ["b"]
