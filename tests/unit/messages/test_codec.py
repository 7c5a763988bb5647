"""The codec keeps what it is given, and refuses what it cannot read with field, value and mend."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages import (
    DataReady,
    DecodeError,
    DeployDone,
    Envelope,
    Event,
    Parameters,
    PreprocessDone,
    StageFailed,
    TrainDone,
    decode,
    encode,
)
from messages.codec import decode_body
from messages.events import EVENTS, is_run_id
from messages.versions import to_current

GOLDEN = Path(__file__).parents[2] / "golden" / "events"
NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
EXAMPLES: list[Event] = [
    DataReady(pipeline="babyweight", source="bq://baton-local.samples.natality", params=Parameters(limit=1000)),
    PreprocessDone(
        pipeline="babyweight",
        dataset_uri="gs://b/runs/r1/preprocess-a1",
        train_examples=10,
        eval_examples=2,
        rejected_rows=1,
        digest="sha256:00",
    ),
    TrainDone(pipeline="babyweight", model_uri="gs://b/runs/r1/train-a1/model", metrics={"rmse_lb": 1.02}),
    DeployDone(
        pipeline="babyweight",
        endpoint="projects/p/locations/us-central1/endpoints/babyweight",
        model="projects/p/locations/us-central1/models/babyweight@1",
        deployed_model_id="1234567890",
        traffic_percent=100,
    ),
    StageFailed(pipeline="babyweight", stage="train", attempts=2, reason="job-failed", message="m", mend="n"),
]


def enveloped(event: Event, **changes: Any) -> Envelope:
    return Envelope(**{"id": "e1", "run_id": "r1", "source": "//test", "time": NOW, "event": event, **changes})


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda e: type(e).__name__)
def test_an_event_survives_the_trip(event: Event) -> None:
    """What is encoded decodes to the same envelope."""
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    envelope = enveloped(event, traceparent=trace)
    assert decode(*encode(envelope)) == envelope


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda p: p.stem)
def test_every_version_ever_published_still_decodes(path: Path) -> None:
    """A golden message decodes, and what is encoded from it says the same."""
    message = json.loads(path.read_text())
    envelope = decode(json.dumps(message["data"]).encode(), message["attributes"])
    data, attributes = encode(envelope)
    assert json.loads(data) == message["data"]
    assert attributes == message["attributes"]


def test_every_event_type_has_a_golden_file() -> None:
    """Nothing is published without a golden file that holds its form."""
    assert {path.stem for path in GOLDEN.glob("*.json")} >= {event.TYPE for event in EVENTS}


def test_unknown_fields_are_kept() -> None:
    """A field of a newer publisher goes through an older worker unchanged."""
    data, attributes = encode(enveloped(EXAMPLES[0]))
    body = {**json.loads(data), "colour": "green"}
    again, _ = encode(decode(json.dumps(body).encode(), attributes))
    assert json.loads(again)["colour"] == "green"


def test_the_tutorials_names_and_strings_are_understood() -> None:
    """The original requests' camelCase and quoted numbers mean the same parameters."""
    given_ = {
        "limit": "1000",
        "outputDir": "gs://b/out",
        "numTrainExamples": 5000,
        "numEvals": "2",
        "versionName": "v2",
    }
    params = Parameters.model_validate(given_)
    assert params.given() == {
        "limit": 1000,
        "output_uri": "gs://b/out",
        "num_train_examples": 5000,
        "num_evals": 2,
        "version_name": "v2",
    }


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("ce-type", {"attributes": {"ce-type": "baton.data.ready.v9"}}),
        ("ce-type", {"attributes": {"ce-type": ""}}),
        ("ce-id", {"attributes": {"ce-id": ""}}),
        ("ce-subject", {"attributes": {"ce-subject": "../../etc"}}),
        ("ce-subject", {"attributes": {"ce-subject": "Capital"}}),
        ("ce-time", {"attributes": {"ce-time": "yesterday"}}),
        ("ce-time", {"attributes": {"ce-time": "2026-11-21T09:00:00"}}),
        ("ce-specversion", {"attributes": {"ce-specversion": "0.3"}}),
        ("data", {"data": b"\xff\xfe"}),
        ("data", {"data": b"[1]"}),
        ("data", {"data": b"{"}),
        ("data", {"data": b"[" * 100_000}),
        ("data", {"data": b'{"pipeline": NaN}'}),
        ("data", {"data": b" " * 1_000_001}),
        ("data.source", {"data": b'{"pipeline":"p"}'}),
        ("data.source", {"data": b'{"pipeline":"p","source":"file:///etc/passwd"}'}),
        ("data.pipeline", {"data": b'{"pipeline":"../p","source":"gs://b/x"}'}),
        ("data.params.limit", {"data": b'{"pipeline":"p","source":"gs://b/x","params":{"limit":"many"}}'}),
        ("data.params.limit", {"data": b'{"pipeline":"p","source":"gs://b/x","params":{"limit":0}}'}),
    ],
)
def test_a_bad_message_names_the_field(field: str, change: dict[str, Any]) -> None:
    """A refusal names the field and what to do, and never quotes a flood."""
    data, attributes = encode(enveloped(EXAMPLES[0]))
    with pytest.raises(DecodeError) as refusal:
        decode(change.get("data", data), {**attributes, **change.get("attributes", {})})
    assert refusal.value.field == field
    assert refusal.value.mend
    assert len(str(refusal.value)) < 1000


@given(st.binary(max_size=300), st.dictionaries(st.text(max_size=20), st.text(max_size=60), max_size=8))
def test_nothing_but_a_decode_error_comes_out(data: bytes, attributes: dict[str, str]) -> None:
    """Whatever arrives, decode either reads it or says why not."""
    base = {"ce-type": DataReady.TYPE, "ce-id": "1", "ce-subject": "r", "ce-time": "2026-01-01T00:00:00Z"}
    for candidate in (attributes, {**attributes, **base}, {**base, **attributes}):
        try:
            assert isinstance(decode(data, candidate), Envelope)
        except DecodeError:
            continue  # a refusal is the other good answer; anything else fails the test


def test_a_broken_trace_context_does_not_stop_the_event() -> None:
    """A malformed traceparent is dropped, the event goes on."""
    data, attributes = encode(enveloped(EXAMPLES[0]))
    assert decode(data, {**attributes, "traceparent": "junk"}).traceparent is None


def test_an_old_version_is_brought_up_step_by_step() -> None:
    """Upcasters chain from the published version to today's class."""
    upcasters = {
        "t.v1": ("t.v2", lambda body: {**body, "source": body["uri"]}),
        "t.v2": (DataReady.TYPE, lambda body: {k: v for k, v in body.items() if k != "uri"}),
    }
    event_class, body = to_current("t.v1", {"pipeline": "p", "uri": "gs://b/x"}, upcasters)
    assert event_class is DataReady
    assert body == {"pipeline": "p", "source": "gs://b/x"}


@pytest.mark.parametrize(
    ("text", "good"),
    [("a", True), ("a-1", True), ("-a", False), ("a-", False), ("A", False), ("a" * 64, False), ("", False)],
)
def test_run_ids_fit_object_names_and_labels(text: str, good: bool) -> None:
    """A run id is a label value and an object name."""
    assert is_run_id(text) is good


def test_the_parent_run_travels_in_the_context() -> None:
    """Of a run that tries another again; a name that can be no run's is dropped, the event goes on."""
    envelope = enveloped(DataReady(pipeline="p", source="gs://b/x"), parent_run="r1")
    data, attributes = encode(envelope)
    assert attributes["ce-parentrun"] == "r1"
    assert decode(data, attributes) == envelope
    assert decode(data, {**attributes, "ce-parentrun": "../r1"}).parent_run is None


@pytest.mark.parametrize("source", ["s3://b/x", "/tmp/x.csv", "gs://"])
def test_a_source_of_another_kind_is_mended_in_words(source: str) -> None:
    """Nobody has to read a pattern."""
    with pytest.raises(DecodeError) as refusal:
        decode_body("baton.data.ready.v1", json.dumps({"pipeline": "p", "source": source}).encode())
    assert refusal.value.mend == "write gs://bucket/object or bq://project.dataset.table"
