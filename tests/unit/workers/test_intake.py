"""Every message has exactly one fate, and the fate is durable before the acknowledgement."""

import json
from pathlib import Path

import pytest
import structlog

from messages import DataReady, Envelope, TrainDone, encode
from tests.support.world import MemoryJobs, MemoryObjects, MemoryPublisher, MemoryStage, VirtualClock
from workers.data_ready import read_data_ready
from workers.errors import PipelineError, TransientError
from workers.intake import Fate, Intake, Message
from workers.ledger import Ledger
from workers.pipeline import Catalog, PipelineSpec
from workers.record import State

NOTIFICATION = {
    "notificationConfig": "projects/_/buckets/data/notificationConfigs/1",
    "eventType": "OBJECT_FINALIZE",
    "bucketId": "data",
    "objectId": "incoming/p/x.csv",
    "objectGeneration": "7",
    "eventTime": "2026-11-21T09:00:00Z",
}


class MemorySources:
    """Objects that events point to."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        self.contents = contents

    def read(self, bucket: str, name: str, generation: int | None = None) -> bytes | None:
        return self.contents.get(f"{bucket}/{name}#{generation}")


class Desk:
    """An intake over memory."""

    def __init__(self, tmp_path: Path) -> None:
        (tmp_path / "p.toml").write_text(
            'name = "p"\n[parameters]\ncolour = "red"\n[trigger]\nprefix = "incoming/p/"\n[preprocess]\ntemplate = "t"\n'
        )
        self.objects, self.publisher, self.clock = MemoryObjects(), MemoryPublisher(), VirtualClock()
        self.sources = MemorySources({})
        catalog, stage = Catalog(tmp_path), MemoryStage((MemoryJobs(),))
        self.ledger = Ledger(self.objects)
        reader = read_data_ready(catalog, self.sources)
        self.intake = Intake(stage, self.ledger, self.publisher, catalog, self.clock, "w", reader)

    def ours(self, **body: object) -> Message:
        event = DataReady.model_validate({"pipeline": "p", "source": "gs://b/x", **body})
        return Message(*encode(Envelope("e1", "r1", "//t", self.clock.now, event)), "m1", 1)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_the_same_message_twice_is_one_claim(desk: Desk) -> None:
    """A second delivery, and a second publish under the same run, name the run they double."""
    assert desk.intake.accept(desk.ours()).fate is Fate.ACCEPTED
    again = desk.intake.accept(desk.ours())
    assert (again.fate, again.run_id) == (Fate.DUPLICATE, "r1")


def test_a_notification_starts_a_run_of_its_prefix(desk: Desk) -> None:
    """An object under a pipeline's prefix is that pipeline's data; told twice it is one run."""
    first = desk.intake.accept(Message(b"{}", NOTIFICATION, "m1"))
    second = desk.intake.accept(Message(b"{}", NOTIFICATION, "m2"))
    assert (first.fate, second.fate) == (Fate.ACCEPTED, Fate.DUPLICATE)
    assert first.run_id == second.run_id
    entry = desk.ledger.read(first.run_id, "preprocess")
    assert entry is not None
    assert entry.record.trigger.body["source"] == "gs://data/incoming/p/x.csv"


def test_an_object_of_no_pipeline_is_filtered_with_the_reason(desk: Desk) -> None:
    """An object that no pipeline wants is accounted for, and starts nothing."""
    fate = desk.intake.accept(Message(b"{}", {**NOTIFICATION, "objectId": "elsewhere/x"}, "m1"))
    assert fate.fate is Fate.FILTERED
    assert "prefix" in fate.reason
    assert desk.publisher.published == []


def test_a_trigger_file_is_read_at_its_generation(desk: Desk) -> None:
    """The request is what was written then, not what is there now."""
    attributes = {**NOTIFICATION, "objectId": "incoming/p/go.trigger.json"}
    body = {"pipeline": "p", "source": "gs://data/shards/", "params": {"limit": "9"}}
    desk.sources.contents["data/incoming/p/go.trigger.json#7"] = json.dumps(body).encode()
    fate = desk.intake.accept(Message(b"{}", attributes, "m1"))
    entry = desk.ledger.read(fate.run_id, "preprocess")
    assert entry is not None
    assert entry.record.params["limit"] == 9
    gone = desk.intake.accept(Message(b"{}", {**attributes, "objectGeneration": "8"}, "m2"))
    assert gone.fate is Fate.DEAD_LETTERED


def test_bare_json_is_a_run_named_by_its_message(desk: Desk) -> None:
    """What `gcloud pubsub topics publish` sends works, and its redelivery is the same run."""
    message = Message(b'{"pipeline":"p","source":"bq://a.b.c"}', {}, "1234567")
    assert desk.intake.accept(message).run_id == "m-1234567"
    assert desk.intake.accept(message).fate is Fate.DUPLICATE


@pytest.mark.parametrize(
    ("message", "word"),
    [
        (Message(b"junk", {}, "m"), "JSON"),
        (Message(b'{"pipeline":"pp","source":"gs://b/x"}', {}, "m"), "did you mean 'p'"),
        (Message(b'{"pipeline":"p","source":"gs://b/x","params":{"limt":1}}', {}, "m"), "did you mean limit"),
        (Message(b'{"pipeline":"p","source":"gs://b/x","params":{"limit":-1}}', {}, "m"), "limit"),
        (Message(b'{"pipeline":"p","source":"http://b/x"}', {}, "m"), "source"),
    ],
)
def test_what_cannot_be_read_goes_to_the_dead_letter_with_its_reason(desk: Desk, message: Message, word: str) -> None:
    """The message is put aside whole, with reason, topic, subscription and attempts."""
    fate = desk.intake.accept(message)
    assert fate.fate is Fate.DEAD_LETTERED
    topic, data, attributes = desk.publisher.published[0]
    assert (topic, data) == ("dead-letter", message.data)
    assert word in attributes["baton-dead-letter-reason"]
    assert attributes["baton-dead-letter-topic"] == "data-ready"
    assert attributes["baton-dead-letter-subscription"] == "preprocess-worker"
    assert list(desk.objects.contents) == ["fates/preprocess-worker/m.json"]


def test_a_parameter_of_the_pipelines_own_is_let_through(desk: Desk) -> None:
    """A parameter declared in the TOML may be set by an event, and keeps its default otherwise."""
    desk.intake.accept(desk.ours(params={"colour": "blue"}))
    entry = desk.ledger.read("r1", "preprocess")
    assert entry is not None
    assert entry.record.params == {"colour": "blue"}


def test_another_stages_event_is_refused_with_its_topic(desk: Desk) -> None:
    """An event on the wrong topic names the right one."""
    event = TrainDone(pipeline="p", model_uri="gs://b/m")
    fate = desk.intake.accept(Message(*encode(Envelope("e", "r", "//t", desk.clock.now, event)), "m"))
    assert fate.fate is Fate.DEAD_LETTERED
    assert "train-done" in fate.reason


def test_if_the_dead_letter_cannot_be_written_the_message_is_kept(desk: Desk) -> None:
    """No message is acknowledged before its fate is durable."""

    def refuse(_moment: str, _effect: str) -> None:
        raise TransientError("no broker")

    desk.publisher.on_effect = refuse
    with pytest.raises(TransientError):
        desk.intake.accept(Message(b"junk", {}, "m"))


def test_a_marker_written_after_the_end_is_taken_away(desk: Desk) -> None:
    """A late duplicate of a finished run leaves no marker behind."""
    desk.intake.accept(desk.ours())
    entry = desk.ledger.read("r1", "preprocess")
    assert entry is not None
    desk.ledger.move(entry, entry.record.model_copy(update={"state": State.PUBLISHED}))
    desk.ledger.unmark("r1", "preprocess")
    assert desk.intake.accept(desk.ours()).fate is Fate.DUPLICATE
    assert list(desk.ledger.marked("preprocess")) == []


def test_the_marker_is_there_before_the_claim(desk: Desk) -> None:
    """Whatever can be claimed can be found by the sweep; the first launch hears of it before anything else is done."""
    seen: list[str] = []
    desk.objects.on_effect = lambda moment, effect: seen.append(effect) if moment == "before" else None
    claim = desk.intake.accept(desk.ours(), begin=lambda _claim: seen.append("begin")).claim
    assert claim is not None
    runs = "write runs/r1/preprocess.json"
    assert seen == ["read runs/r1/cancelled.json", "write inflight/preprocess/r1", runs, "begin"]


def test_a_message_that_claims_nothing_leaves_a_note_of_its_fate(desk: Desk) -> None:
    """Before it is acknowledged: duplicates name their run, refusals their reason."""
    first, again = desk.ours(), Message(*encode_again(desk), "m2", 1)
    desk.intake.accept(first)
    desk.intake.accept(again)
    desk.intake.accept(Message(b"{}", {**NOTIFICATION, "objectId": "elsewhere/x"}, "m3"))
    desk.intake.accept(Message(b"junk", {}, "m4"))
    notes = {name: desk.ledger.fate("preprocess-worker", name) for name in ("m2", "m3", "m4")}
    assert all(notes.values())
    assert (notes["m2"] or {})["fate"] == "duplicate"
    assert (notes["m2"] or {})["run_id"] == "r1"
    assert (notes["m3"] or {})["fate"] == "filtered"
    assert (notes["m4"] or {})["fate"] == "dead-lettered"
    assert "JSON" in (notes["m4"] or {})["reason"]


def test_an_accepted_message_costs_no_note(desk: Desk) -> None:
    """The record names it; neither does its redelivery, not even after the run was cancelled."""
    desk.intake.accept(desk.ours())
    desk.intake.accept(desk.ours())
    desk.ledger.cancel("r1", "somebody", desk.clock.now)
    desk.intake.accept(desk.ours())
    assert desk.ledger.fate("preprocess-worker", "m1") is None


def test_the_first_note_of_a_message_stands(desk: Desk) -> None:
    """A message whose note was written and whose acknowledgement was lost comes again: one message, one fate."""
    desk.intake.accept(Message(b"junk", {}, "m1"))
    noted = desk.ledger.fate("preprocess-worker", "m1")
    desk.clock.move(60)
    desk.intake.accept(Message(b"junk", {}, "m1"))
    assert desk.ledger.fate("preprocess-worker", "m1") == noted


def test_a_message_whose_note_cannot_be_written_is_kept(desk: Desk) -> None:
    """It comes again; what was published twice on the way carries the same original id."""

    def refuse(moment: str, effect: str) -> None:
        if effect.startswith("write fates/"):
            raise TransientError("no store")

    desk.objects.on_effect = refuse
    with pytest.raises(TransientError):
        desk.intake.accept(Message(b"junk", {}, "m1"))


def test_a_run_remembers_the_one_that_it_tries_again(desk: Desk) -> None:
    """The parent travels in the event's context and stays in the record."""
    event = DataReady(pipeline="p", source="gs://b/x")
    envelope = Envelope("e2", "r1-r2", "//t", desk.clock.now, event, parent_run="r1")
    desk.intake.accept(Message(*encode(envelope), "m1", 1))
    entry = desk.ledger.read("r1-r2", "preprocess")
    assert entry is not None
    assert entry.record.trigger.parent_run == "r1"


def encode_again(desk: Desk) -> tuple[bytes, dict[str, str]]:
    message = desk.ours()
    return message.data, dict(message.attributes)


def test_a_duplicate_takes_no_marker_from_a_run_at_work(desk: Desk) -> None:
    """The marker is what brings a run back whose worker died; it goes when the run has ended, whoever left it."""
    claim = desk.intake.accept(desk.ours()).claim
    assert claim is not None
    desk.intake.accept(desk.ours())
    assert list(desk.ledger.marked("preprocess")) == ["r1"]
    ended = claim.record.model_copy(update={"state": State.PUBLISHED})
    desk.objects.write("runs/r1/preprocess.json", ended.to_json(), if_generation=claim.generation)
    desk.intake.accept(desk.ours())
    assert list(desk.ledger.marked("preprocess")) == []


def test_a_duplicate_says_of_what(desk: Desk) -> None:
    """The same message again is in the record already; another message, or another event, leaves a note of its own."""
    desk.intake.accept(desk.ours())
    redelivered = desk.intake.accept(desk.ours())
    assert redelivered.is_told
    assert "told again" in redelivered.reason
    assert not any(name.startswith("fates/") for name in desk.objects.contents)

    first = desk.ours()
    published_again = desk.intake.accept(Message(first.data, first.attributes, "m2", 1))
    assert not published_again.is_told
    assert "told again" in published_again.reason
    event = DataReady(pipeline="p", source="gs://b/other")
    asked_again = desk.intake.accept(Message(*encode(Envelope("e2", "r1", "//t", desk.clock.now, event)), "m3", 1))
    assert "asked again by event e2" in asked_again.reason
    notes = [json.loads(desk.objects.contents[f"fates/preprocess-worker/{name}.json"].content) for name in ("m2", "m3")]
    assert [(note["fate"], note["run_id"]) for note in notes] == [("duplicate", "r1")] * 2


def test_every_fate_is_logged_with_its_message(desk: Desk) -> None:
    """Who looks for a message in the logs finds what became of it."""
    with structlog.testing.capture_logs() as said:
        desk.intake.accept(desk.ours())
        desk.intake.accept(Message(b"junk", {}, "m9"))
    assert [(line["message_id"], line["event"], line["run_id"], line["log_level"]) for line in said] == [
        ("m1", "accepted", "r1", "info"),
        ("m9", "dead-lettered", "", "error"),
    ]


def test_a_pipeline_without_the_stage_is_a_dead_letter(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event may name a pipeline that this queue's stage has no part in."""

    def refuse(_stage: MemoryStage, _spec: PipelineSpec) -> tuple[int, float]:
        raise PipelineError("pipeline 'p' has no [preprocess]; add it to p.toml")

    monkeypatch.setattr(MemoryStage, "limits", refuse)
    fate = desk.intake.accept(desk.ours())
    assert fate.fate is Fate.DEAD_LETTERED
    assert "has no [preprocess]" in fate.reason
    assert desk.ledger.read("r1", "preprocess") is None
