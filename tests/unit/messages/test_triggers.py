"""A bucket notification starts one run per generation of an object, however often it is told."""

import json

import pytest

from messages import DecodeError, Filtered
from messages.events import is_run_id
from messages.triggers import StoredObject, data_ready_of, is_notification, parse_notification, read_trigger

NOTIFICATION = {
    "notificationConfig": "projects/_/buckets/data/notificationConfigs/1",
    "eventType": "OBJECT_FINALIZE",
    "payloadFormat": "JSON_API_V1",
    "bucketId": "data",
    "objectId": "incoming/babyweight/Births 2022.csv",
    "objectGeneration": "1763715600000000",
    "eventTime": "2026-11-21T09:00:00.123Z",
}


def test_the_run_id_follows_from_bucket_object_and_generation() -> None:
    """Told twice it is the same run; a new generation, name or bucket is another."""
    first = parse_notification(NOTIFICATION).run_id
    assert first == parse_notification(dict(NOTIFICATION)).run_id
    assert is_run_id(first)
    assert first.startswith("births-2022-csv-")
    for change in ({"objectGeneration": "2"}, {"objectId": "x/Births 2022.csv"}, {"bucketId": "other"}):
        assert parse_notification({**NOTIFICATION, **change}).run_id != first


@pytest.mark.parametrize("name", ["ü/ÄÖ.csv", "…", "a" * 900, "-", "incoming/.csv"])
def test_any_object_name_gives_a_run_id(name: str) -> None:
    """Whatever a bucket holds, its name becomes a legal run id."""
    assert is_run_id(StoredObject("b", name, 1).run_id)


@pytest.mark.parametrize(
    "change",
    [{"eventType": "OBJECT_DELETE"}, {"eventType": "OBJECT_METADATA_UPDATE"}, {"objectId": "incoming/folder/"}],
)
def test_what_is_no_new_data_is_filtered(change: dict[str, str]) -> None:
    """Deletions and folder placeholders start nothing, and say so."""
    with pytest.raises(Filtered, match="no"):
        parse_notification({**NOTIFICATION, **change})


@pytest.mark.parametrize(
    "change", [{"objectGeneration": "x"}, {"objectGeneration": ""}, {"bucketId": ""}, {"objectId": ""}]
)
def test_a_forged_notification_is_refused(change: dict[str, str]) -> None:
    """A notification without its facts is no notification."""
    with pytest.raises(DecodeError):
        parse_notification({**NOTIFICATION, **change})


def test_a_trigger_file_names_source_and_parameters() -> None:
    """The content of `*.trigger.json` is the request; the notification's pipeline fills in what it leaves out."""
    stored = StoredObject("data", "incoming/x.trigger.json", 1, pipeline="babyweight")
    assert stored.is_trigger
    event = read_trigger(json.dumps({"source": "gs://data/shards/", "params": {"limit": 5}}).encode(), stored)
    assert (event.pipeline, event.source, event.params.limit) == ("babyweight", "gs://data/shards/", 5)


def test_a_bad_trigger_file_is_named_by_its_uri() -> None:
    """The place in the refusal is the file, not the message."""
    with pytest.raises(DecodeError) as refusal:
        read_trigger(b"{}", StoredObject("data", "x.trigger.json", 1))
    assert refusal.value.field.startswith("gs://data/x.trigger.json.")


def test_an_object_is_the_source() -> None:
    """Any other object is the data itself."""
    stored = parse_notification(NOTIFICATION)
    assert is_notification(NOTIFICATION)
    assert not stored.is_trigger
    assert data_ready_of(stored, "babyweight").source == "gs://data/incoming/babyweight/Births 2022.csv"
