"""The audit's sum is right when nothing is missing, and names what is missing when something is."""

import os
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from baton.__main__ import run
from baton.audit import backlog, tap
from baton.audit.auditing import Audit
from baton.audit.books import Books
from baton.audit.fate import Verdict
from baton.audit.report import Report
from baton.client import Client
from baton.errors import EXIT_OK, NotKnown, Refused
from baton.profile import Profile
from baton.pulling import pull
from baton.setup import set_up
from messages import DataReady, DeployDone, Envelope, PreprocessDone, encode
from messages.codec import encode_body, parse_object
from messages.topics import subscription_path
from tests.support.house import House
from tests.support.waiting import wait_until
from workers.data_ready import read_data_ready
from workers.intake import Disposition, Fate, Intake, Message, read_event
from workers.publisher import publish_event
from workers.record import Outcome, State
from workers.sources import StorageSources

NOW = timedelta(0)
WAIT_S = 30


@dataclass
class Bench:
    """A project without workers: the tests themselves take the messages, with the workers' own code."""

    client: Client

    def publish(self, run_id: str = "", body: bytes | None = None) -> str:
        """Publish to data-ready: an event of a run, or any bytes; return the message's id."""
        if body is not None:
            return self.raw("data-ready", body, {})
        event = DataReady(pipeline="quick", source="gs://b/x.csv")
        data, attributes = encode(Envelope(f"{run_id}.data-ready", run_id, "//test", datetime.now(UTC), event))
        return self.raw("data-ready", data, attributes)

    def raw(self, topic: str, data: bytes, attributes: dict[str, str]) -> str:
        path = f"projects/{self.client.profile.project}/topics/{topic}"
        return str(self.client.connections.topics.publish(path, data, **attributes).result(timeout=20))

    def pull(self, queue: str = "preprocess-worker", at_least: int = 1) -> list[Any]:
        path, received = subscription_path(self.client.profile.project, queue), list[Any]()
        while len(received) < at_least:
            received += wait_until(lambda: pull(self.client.connections, path), WAIT_S, f"a message in {queue}")
        return received

    def ack(self, received: list[Any], queue: str = "preprocess-worker") -> None:
        path = subscription_path(self.client.profile.project, queue)
        request = {"subscription": path, "ack_ids": [item.ack_id for item in received]}
        self.client.connections.subscriber.acknowledge(request=request)

    def give_back(self, received: list[Any], queue: str = "preprocess-worker") -> None:
        if not received:
            return
        path = subscription_path(self.client.profile.project, queue)
        request = {"subscription": path, "ack_ids": [r.ack_id for r in received], "ack_deadline_seconds": 0}
        self.client.connections.subscriber.modify_ack_deadline(request=request)

    def wear_out(self, spared: str = "") -> None:
        """Take messages and give them back until Pub/Sub puts one aside."""
        path = subscription_path(self.client.profile.project, "preprocess-worker")
        settings: dict[str, Any] = {"name": path, "retry_policy": {"minimum_backoff": NOW, "maximum_backoff": NOW}}
        request = {"subscription": settings, "update_mask": {"paths": ["retry_policy"]}}
        self.client.connections.subscriber.update_subscription(request=request)

        def is_put_aside() -> bool:
            self.give_back([m for m in pull(self.client.connections, path) if m.message.message_id != spared])
            return len(self.client.dead_letters()) == 1

        wait_until(is_put_aside, 60, "Pub/Sub gives up on the message")

    def accept(self, received: list[Any], stage: str = "preprocess") -> list[Disposition]:
        """Do with messages what a worker does before it acknowledges."""
        parts = self.client.connections
        sources = StorageSources(parts.small_objects)
        read = read_data_ready(parts.catalog, sources) if stage == "preprocess" else read_event(PreprocessDone)
        queue: Any = SimpleNamespace(name=stage, subscription=f"{stage}-worker", limits=lambda spec: (1, 60.0))
        intake = Intake(
            queue, parts.ledger, parts.publisher, parts.catalog, lambda: datetime.now(UTC), "the test", read
        )
        return [
            intake.accept(Message(item.message.data, dict(item.message.attributes), item.message.message_id))
            for item in received
        ]

    def end(self, run_id: str, *, tells: bool = True) -> None:
        """End the preprocessing of a run: tell its event, then note it; or note it without telling."""
        entry = self.client.connections.ledger.read(run_id, "preprocess")
        assert entry is not None
        event = PreprocessDone(pipeline="quick", dataset_uri="gs://b/d")
        if tells:
            publish_event(
                self.client.connections.publisher,
                event,
                event_id=f"{run_id}.preprocess.done",
                run_id=run_id,
                source="//test",
                time=datetime.now(UTC),
                traceparent=None,
            )
        result = {"type": event.TYPE, "body": parse_object(encode_body(event), "result")}
        changes = {"outcome": Outcome.SUCCEEDED, "result": result}
        moved = entry.record.moved(State.PUBLISHED, now=datetime.now(UTC), by="the test", **changes)
        self.client.connections.ledger.move(entry, moved)

    def audit(self, patience: timedelta = NOW) -> Report:
        return Audit(self.client.connections, patience=patience).look()

    def counts(self, topic: str = "data-ready") -> dict[str, int]:
        (row,) = [row for row in self.audit().rows if row.topic == topic]
        return {verdict.value: count for verdict, count in row.counts.items() if count}

    def put_aside(self, body: bytes) -> None:
        """Have a message that is no event arrive, and be read and acknowledged."""
        self.publish(body=body)
        received = self.pull()
        self.accept(received)
        self.ack(received)


@pytest.fixture
def bench(running: House, tmp_path: Path) -> Iterator[Bench]:
    """A fresh project in the running cloud, set up."""
    name = f"audit-{uuid.uuid4().hex[:10]}"
    variables = {"GOOGLE_CLOUD_PROJECT": name, "BATON_BUCKET": f"{name}-p", "BATON_DATA_BUCKET": f"{name}-d"}
    before = dict(os.environ)
    with Client(Profile({**running.env(), **variables}, home=tmp_path, source="the test")) as client:
        set_up(client.connections, lambda step: None)
        yield Bench(client)
    os.environ.clear()
    os.environ.update(before)


def test_every_message_has_exactly_one_fate(bench: Bench) -> None:
    """Consumed, duplicate, filtered, dead-lettered, outcome: each is counted once, and the sum is right."""
    bench.publish("r1")
    bench.publish("r1")
    bench.publish(body=b"junk")
    bench.raw("data-ready", b"{}", {"notificationConfig": "c", "eventType": "OBJECT_DELETE"})
    received = bench.pull(at_least=4)
    bench.accept(received)
    bench.ack(received)
    done = DeployDone(pipeline="p", endpoint="e", model="m", deployed_model_id="1", traffic_percent=100)
    data, attributes = encode(Envelope("r1.deploy.done", "r1", "//test", datetime.now(UTC), done))
    for _ in range(2):
        bench.raw("deploy-done", data, attributes)
    report = bench.audit()
    assert report.is_balanced
    assert bench.counts() == {"consumed": 1, "duplicate": 1, "filtered": 1, "dead-lettered": 1}
    assert bench.counts("deploy-done") == {"outcome": 1, "duplicate": 1}
    (duplicate,) = [one for one in report.of(Verdict.DUPLICATE) if one.queue]
    assert duplicate.run_id == "r1"
    assert report.published == 6
    assert sum(sum(row.counts.values()) for row in report.rows) == 6


def test_what_waits_is_in_flight_and_is_not_touched_by_looking(bench: Bench) -> None:
    """The queue gives out nothing: no lease, no delivery attempt; nothing of the look is left behind."""
    waiting = bench.publish("r1")
    assert bench.counts() == {"in flight": 1}
    assert [one.message.message_id for one in bench.audit().in_flight] == [waiting]
    (received,) = bench.pull()
    assert received.delivery_attempt == 1
    assert bench.counts() == {"in flight": 1}, "leased by a worker is in flight too"
    bench.accept([received])
    assert bench.counts() == {"consumed": 1}, "claimed, and not yet acknowledged"
    project = f"projects/{bench.client.profile.project}"
    subscriber = bench.client.connections.subscriber
    assert not [s for s in subscriber.list_subscriptions(project=project) if backlog.PREFIX in s.name]
    assert not list(subscriber.list_snapshots(project=project))


def test_a_message_that_was_acknowledged_without_a_fate_is_lost(bench: Bench) -> None:
    """Somebody who is no worker took it: the audit says which."""
    bench.publish("r1")
    stolen = bench.publish("r2")
    received = bench.pull(at_least=2)
    (mine,) = [item for item in received if item.message.message_id != stolen]
    bench.accept([mine])
    bench.ack(received)
    report = bench.audit()
    assert not report.is_balanced
    assert [(one.message.message_id, one.message.run_id) for one in report.lost] == [(stolen, "r2")]


def test_a_message_that_no_queue_was_there_for_is_lost(bench: Bench) -> None:
    """Published while the stage's subscription was deleted: made again, it never gets the message."""
    path = subscription_path(bench.client.profile.project, "preprocess-worker")
    bench.client.connections.subscriber.delete_subscription(subscription=path)
    bench.publish("r1")
    with pytest.raises(Refused, match="preprocess-worker"):
        bench.audit()
    set_up(bench.client.connections, lambda step: None)
    assert [one.message.run_id for one in bench.audit().lost] == ["r1"]


def test_a_dead_letter_that_nobody_kept_is_lost(bench: Bench) -> None:
    """Without a subscription on the dead-letter topic the letter is dropped; the note alone does not count."""
    path = subscription_path(bench.client.profile.project, "dead-letter-inbox")
    bench.client.connections.subscriber.delete_subscription(subscription=path)
    bench.put_aside(b"junk")
    set_up(bench.client.connections, lambda step: None)
    (lost,) = bench.audit().lost
    assert "letter is gone" in lost.note
    assert bench.audit(patience=timedelta(minutes=1)).is_balanced, "a moment later it might still have come"


def test_without_an_inbox_the_audit_still_tells_what_is_lost(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """Then it is wanted most; and the letters of the archive can be looked at, with a word about the inbox."""
    bench.put_aside(b"junk")
    (kept,) = wait_until(bench.client.dead_letters, WAIT_S, "the letter")
    path = subscription_path(bench.client.profile.project, "dead-letter-inbox")
    bench.client.connections.subscriber.delete_subscription(subscription=path)
    bench.put_aside(b"more junk")
    assert bench.counts() == {"dead-lettered": 1, "lost": 1}
    with pytest.raises(NotKnown, match="dead-letter-inbox is not there") as told:
        bench.client.dead_letters()
    assert "baton setup" in told.value.mend
    capsys.readouterr()
    assert run(["dlq", "ls"]) == EXIT_OK
    said = capsys.readouterr()
    assert kept.key in said.out
    assert "baton setup" in said.err


def test_a_message_above_four_mebibytes_hides_no_other(bench: Bench) -> None:
    """gRPC's usual limit of a response is no limit of a message's."""
    ids = {bench.publish("r1"), bench.publish(body=b"x" * 5_000_000), bench.publish("r2")}
    report = bench.audit()
    assert {one.message.message_id for one in report.in_flight} == ids
    assert bench.raw("dead-letter", b"y" * 5_000_000, {})
    (letter,) = wait_until(bench.client.dead_letters, WAIT_S, "the letter")
    assert len(bench.client.dead_letter(letter.key).content.data) == 5_000_000


def test_no_number_is_no_time_to_wait(bench: Bench) -> None:
    """Such a wait would never be over."""
    with pytest.raises(Refused, match="nan"):
        bench.client.audit(wait_s=float("nan"))


def test_what_pubsub_put_aside_itself_is_found_and_sent_back(bench: Bench) -> None:
    """Delivered too often while the worker failed: dead-lettered without a note; redriven it is a run."""
    message_id = bench.publish("r1")
    twin = bench.publish("r2")

    bench.wear_out(twin)
    report = bench.audit()
    assert report.is_balanced
    (found,) = report.of(Verdict.DEAD_LETTERED)
    assert found.message.message_id == message_id
    assert [one.message.message_id for one in report.in_flight] == [twin]
    (letter,) = bench.client.dead_letters()
    assert "delivered 10 times to preprocess-worker" in letter.reason
    (sent,) = bench.client.redrive(letter.key)
    assert sent.run_id == "r1"
    received = bench.pull()
    assert bench.accept([item for item in received if item.message.message_id == sent.message_id])[0].run_id == "r1"
    assert bench.counts() == {"consumed": 1, "dead-lettered": 1, "in flight": 1}


def test_bare_json_that_was_accepted_and_put_aside_all_the_same_is_one_run(bench: Bench) -> None:
    """Its acknowledgements were lost; Pub/Sub does not say which message it was, but the audit's books know."""
    message_id = bench.publish(body=b'{"pipeline": "quick", "source": "gs://b/x.csv"}')
    received = bench.pull()
    assert bench.accept(received)[0].run_id == f"m-{message_id}"
    bench.give_back(received)
    bench.wear_out()
    (letter,) = bench.client.dead_letters()
    assert letter.run_id != f"m-{message_id}", "it does not say"
    (sent,) = bench.client.redrive(letter.key)
    assert (sent.run_id, sent.is_effective) == (f"m-{message_id}", False)
    (again,) = bench.accept(bench.pull())
    assert (again.fate, again.run_id) == (Fate.DUPLICATE, f"m-{message_id}")
    assert bench.counts() == {"consumed": 1, "duplicate": 1}
    assert bench.audit().is_balanced


def test_a_stage_that_says_it_told_its_event_is_held_to_it(bench: Bench) -> None:
    """The record says published, and nobody ever saw the event: the chain is broken there, and that is said."""
    bench.publish("r1")
    bench.publish("r2")
    received = bench.pull(at_least=2)
    bench.accept(received)
    bench.ack(received)
    report = bench.audit()
    assert report.is_balanced
    assert not report.is_settled, "the stages have not ended"
    bench.end("r1")
    bench.end("r2", tells=False)
    report = bench.audit()
    assert [(one.run_id, one.missing) for one in report.untold] == [("r2", "preprocess-done r2.preprocess.done")]
    assert not report.is_balanced
    assert bench.audit(patience=timedelta(minutes=1)).is_balanced, "what was told just now may still be on its way"


def test_an_audit_that_dies_before_its_acknowledgement_counts_nothing_twice(bench: Bench) -> None:
    """The messages come again, in another batch: the books know them."""
    first = bench.publish("r1")
    received = bench.pull("audit-data-ready")
    Books(bench.client.connections.objects).write([tap.published_of("data-ready", item.message) for item in received])
    bench.publish("r2")
    bench.give_back(received, "audit-data-ready")
    report = bench.audit()
    assert report.published == 2
    assert [one.message.message_id for one in report.in_flight].count(first) == 1


def test_audits_at_the_same_time_agree_in_the_end(bench: Bench) -> None:
    """Each takes a part of what was published; the books hold all of it once."""
    for number in range(30):
        bench.publish(f"r{number}")
    with ThreadPoolExecutor(3) as pool:
        reports = list(pool.map(lambda _: bench.audit(), range(3)))
    assert all(report.is_balanced for report in reports)
    assert bench.counts() == {"in flight": 30}


def test_closed_books_are_not_opened_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was accounted for to the last message stays so, whatever becomes of the ledger, and costs no reading."""
    for number in range(5):
        bench.publish(f"r{number}")
    received: list[Any] = []
    while len(received) < 5:
        received += bench.pull()
    bench.accept(received)
    bench.ack(received)
    for number in range(5):
        bench.end(f"r{number}")
    assert bench.audit().is_balanced
    read: list[str] = []
    ledger = bench.client.connections.ledger
    real: Callable[..., Any] = ledger.read
    monkeypatch.setattr(ledger, "read", lambda run_id, stage: read.append(stage) or real(run_id, stage))
    assert bench.counts() == {"consumed": 5}
    assert "preprocess" not in read, "its batch is closed; only what waits for training is looked up"


def test_a_look_that_was_killed_leaves_nothing_for_long(bench: Bench) -> None:
    """Its subscription and snapshot are deleted by a later one."""
    subscriber, project = bench.client.connections.subscriber, bench.client.profile.project
    name = f"{backlog.PREFIX}1700000000-0123abcd"
    path = subscription_path(project, name)
    subscriber.create_subscription(name=path, topic=f"projects/{project}/topics/data-ready")
    queue = subscription_path(project, "preprocess-worker")
    subscriber.create_snapshot(request={"name": f"projects/{project}/snapshots/{name}", "subscription": queue})
    bench.publish("r1")
    bench.audit()
    assert path not in [found.name for found in subscriber.list_subscriptions(project=f"projects/{project}")]
    assert not list(subscriber.list_snapshots(project=f"projects/{project}"))


def test_an_emulator_that_cannot_show_a_queue_is_not_believed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that gives an empty subscription for a snapshot would make everything that waits look lost."""
    monkeypatch.setattr(type(bench.client.connections.subscriber), "seek", lambda *_, **__: None)
    bench.publish("r1")
    report = bench.audit()
    assert not report.is_exact
    assert "cannot tell" in report.lost[0].note


def test_without_a_tap_there_is_no_audit(bench: Bench) -> None:
    """What was published unseen cannot be accounted for: that is said, with the mend."""
    path = subscription_path(bench.client.profile.project, "audit-train-done")
    bench.client.connections.subscriber.delete_subscription(subscription=path)
    with pytest.raises(Refused, match="audit-train-done") as told:
        bench.audit()
    assert "baton setup" in told.value.mend


def test_the_command_says_whether_the_sum_is_right(baton: Any, client: Client, running: House) -> None:
    """With exit code 0 while runs are in flight and when they have ended."""
    answer = baton("publish", "data-ready", "--pipeline", "quick", "--source", "gs://data/births.csv", "--json").json
    during = baton("audit")
    assert during.code == 0, during.out
    assert "the sum is right" in during.out
    client.wait(answer["run_id"], timeout_s=60)
    after = baton("audit", "--wait", "30", "--json")
    assert (after.code, after.json["balanced"], after.json["lost"]) == (0, True, [])
    listed = baton("audit", "--list", "outcome", "--json").json
    assert f"{answer['run_id']}.deploy.done" in [row["event_id"] for row in listed]
