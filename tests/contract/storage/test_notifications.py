"""Notifications: which events a change makes, what they say, and that none is lost when the broker refuses."""

import json
from pathlib import Path

import pytest
from google.api_core import exceptions
from google.cloud import storage

from localcloud.storage import StorageServer
from tests.contract.storage.conftest import PROJECT, Broker, Event, connect
from tests.support.loop_thread import LoopThread
from tests.support.waiting import wait_until

TOPIC = f"projects/{PROJECT}/topics/data-ready"


@pytest.fixture
def ours(our_port: int) -> storage.Client:
    client = connect(f"http://127.0.0.1:{our_port}")
    yield client
    client.close()


@pytest.fixture
def bucket(ours: storage.Client, request: pytest.FixtureRequest) -> storage.Bucket:
    name = request.node.name.replace("[", "-").replace("]", "").strip("-")[:60]
    return ours.create_bucket(name)


def listen(bucket: storage.Bucket, topic: str = "data-ready", **config: object) -> None:
    payload_format = config.pop("payload_format", "JSON_API_V1")
    made = bucket.notification(topic_name=topic, topic_project=PROJECT, payload_format=payload_format, **config)
    made.create()


def events_of(broker: Broker, bucket: storage.Bucket, count: int) -> list[Event]:
    """Wait until the bucket has made `count` events; return them in order of what they are about."""

    def found() -> list[Event]:
        return [event for event in broker.events if event.attributes["bucketId"] == bucket.name]

    wait_until(lambda: len(found()) >= count, what=f"{count} events")
    return sorted(found(), key=lambda event: (event.attributes["objectGeneration"], event.attributes["eventType"]))


def types(events: list[Event]) -> list[str]:
    return [event.attributes["eventType"] for event in events]


def test_a_new_object_is_announced(bucket: storage.Bucket, broker: Broker) -> None:
    """OBJECT_FINALIZE carries the object's resource and says where it is from."""
    listen(bucket, custom_attributes={"room": "raw"})
    blob = bucket.blob("births.csv")
    blob.upload_from_string("data", content_type="text/csv")
    (event,) = events_of(broker, bucket, 1)
    assert event.topic == TOPIC
    time = event.attributes.pop("eventTime")
    assert time.endswith("Z")
    assert event.attributes == {
        "room": "raw",
        "notificationConfig": f"projects/_/buckets/{bucket.name}/notificationConfigs/1",
        "eventType": "OBJECT_FINALIZE",
        "payloadFormat": "JSON_API_V1",
        "bucketId": bucket.name,
        "objectId": "births.csv",
        "objectGeneration": str(blob.generation),
    }
    resource = json.loads(event.data)
    assert (resource["kind"], resource["bucket"], resource["name"]) == ("storage#object", bucket.name, "births.csv")
    assert (resource["size"], resource["generation"]) == ("4", str(blob.generation))


def test_an_overwrite_makes_two_events(bucket: storage.Bucket, broker: Broker) -> None:
    """The new generation is finalized and the old one deleted; each names the other."""
    listen(bucket)
    blob = bucket.blob("data")
    blob.upload_from_string("old")
    old = blob.generation
    blob.upload_from_string("new")
    deleted, first, second = events_of(broker, bucket, 3)
    assert types([deleted, first, second]) == ["OBJECT_DELETE", "OBJECT_FINALIZE", "OBJECT_FINALIZE"]
    assert deleted.attributes["objectGeneration"] == first.attributes["objectGeneration"] == str(old)
    assert (
        deleted.attributes["overwrittenByGeneration"] == second.attributes["objectGeneration"] == str(blob.generation)
    )
    assert second.attributes["overwroteGeneration"] == str(old)
    assert "overwroteGeneration" not in first.attributes
    assert "timeDeleted" in json.loads(deleted.data)


def test_a_versioned_bucket_archives(bucket: storage.Bucket, broker: Broker) -> None:
    """Replacing or deleting in a versioned bucket archives; deleting the generation deletes."""
    bucket.versioning_enabled = True
    bucket.patch()
    listen(bucket)
    blob = bucket.blob("data")
    blob.upload_from_string("old")
    old = blob.generation
    blob.upload_from_string("new")
    bucket.blob("data").delete()
    bucket.blob("data", generation=old).delete()
    found = events_of(broker, bucket, 5)
    assert types(found) == ["OBJECT_ARCHIVE", "OBJECT_DELETE", "OBJECT_FINALIZE", "OBJECT_ARCHIVE", "OBJECT_FINALIZE"]


def test_metadata_changes_copies_and_compositions_are_announced(bucket: storage.Bucket, broker: Broker) -> None:
    """Each way to make or change an object makes its event."""
    blob = bucket.blob("a")
    blob.upload_from_string("x")
    listen(bucket)
    blob.metadata = {"k": "v"}
    blob.patch()
    bucket.copy_blob(blob, bucket, "b")
    bucket.blob("c").compose([blob])
    bucket.blob("d").rewrite(blob)
    blob.delete()
    found = events_of(broker, bucket, 5)
    assert types(found) == ["OBJECT_DELETE", "OBJECT_METADATA_UPDATE", *["OBJECT_FINALIZE"] * 3]
    assert found[1].attributes["objectId"] == "a"
    assert json.loads(found[1].data)["metadata"] == {"k": "v"}


def test_configs_choose_events_names_and_payload(bucket: storage.Bucket, broker: Broker) -> None:
    """event_types, object_name_prefix and payload_format are honoured, each config by itself."""
    listen(bucket, topic="finals", event_types=["OBJECT_FINALIZE"], blob_name_prefix="raw/")
    listen(bucket, topic="deletes", event_types=["OBJECT_DELETE"], payload_format="NONE")
    for name in ("raw/x", "other/x"):
        bucket.blob(name).upload_from_string("x")
        bucket.blob(name).delete()
    found = events_of(broker, bucket, 3)
    assert [(event.topic.rpartition("/")[2], event.attributes["objectId"]) for event in found] == [
        ("deletes", "raw/x"),
        ("finals", "raw/x"),
        ("deletes", "other/x"),
    ]
    assert found[0].data == b""
    assert found[0].attributes["payloadFormat"] == "NONE"


def test_a_failed_change_makes_no_event(bucket: storage.Bucket, broker: Broker) -> None:
    """A refused upload or delete is not announced."""
    listen(bucket)
    blob = bucket.blob("data")
    blob.upload_from_string("x")
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("data").upload_from_string("y", if_generation_match=0)
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("data").delete(if_generation_match=1)
    bucket.blob("last").upload_from_string("z")
    assert [event.attributes["objectId"] for event in events_of(broker, bucket, 2)] == ["data", "last"]


@pytest.mark.parametrize(
    "config",
    [
        {"topic": "data-ready", "payload_format": "JSON_API_V1"},
        {"topic": f"//pubsub.googleapis.com/{TOPIC}"},
        {"topic": f"//pubsub.googleapis.com/{TOPIC}", "payload_format": "XML"},
        {"topic": f"//pubsub.googleapis.com/{TOPIC}", "payload_format": "NONE", "event_types": ["OBJECT_READ"]},
        {"topic": f"//pubsub.googleapis.com/{TOPIC}", "payload_format": "NONE", "events": []},
        {
            "topic": f"//pubsub.googleapis.com/{TOPIC}",
            "payload_format": "NONE",
            "custom_attributes": {f"k{number}": "v" for number in range(11)},
        },
    ],
)
def test_configs_the_cloud_would_refuse_are_refused(
    ours: storage.Client, bucket: storage.Bucket, config: dict[str, object]
) -> None:
    """A config with a short topic, no payload format, unknown events or too many attributes answers 400."""
    with pytest.raises(exceptions.BadRequest):
        ours._post_resource(f"/b/{bucket.name}/notificationConfigs", config)
    assert list(bucket.list_notifications()) == []


def test_at_most_ten_configs_for_one_event(bucket: storage.Bucket) -> None:
    """The eleventh config for an event type is refused, as in the cloud."""
    for _ in range(10):
        listen(bucket, event_types=["OBJECT_FINALIZE"])
    with pytest.raises(exceptions.BadRequest):
        listen(bucket, event_types=["OBJECT_FINALIZE"])
    listen(bucket, event_types=["OBJECT_DELETE"])


def test_a_refusing_topic_holds_nobody_up(loop: LoopThread, tmp_path: Path) -> None:
    """Events for a topic that refuses wait and come once it takes them; other topics' events pass at once."""
    broker = Broker(refusing={f"projects/{PROJECT}/topics/absent"})
    port = loop.start(StorageServer(data_dir=tmp_path, publish=broker.publish))
    client = connect(f"http://127.0.0.1:{port}")
    bucket = client.create_bucket("bucket")
    listen(bucket, topic="absent")
    listen(bucket, topic="data-ready")
    for number in range(5):
        bucket.blob(str(number)).upload_from_string("x")
    wait_until(lambda: len(broker.events) == 5, what="the good topic's events")
    broker.refusing.clear()
    wait_until(lambda: len(broker.events) == 10, what="the other topic's events")
    assert sorted(event.topic.rpartition("/")[2] for event in broker.events) == ["absent"] * 5 + ["data-ready"] * 5
    client.close()


def test_undelivered_events_survive_a_restart(loop: LoopThread, tmp_path: Path) -> None:
    """What the broker did not take before a stop is delivered after the next start, and only once."""
    refusing = Broker(refusing={TOPIC})
    server = StorageServer(data_dir=tmp_path, publish=refusing.publish)
    client = connect(f"http://127.0.0.1:{loop.start(server)}")
    bucket = client.create_bucket("bucket")
    listen(bucket)
    bucket.blob("data").upload_from_string("x")
    client.close()
    loop.stop(server)
    assert refusing.events == []
    broker = Broker()
    loop.start(StorageServer(data_dir=tmp_path, publish=broker.publish))
    wait_until(lambda: len(broker.events) == 1, what="the waiting event")
    assert broker.events[0].attributes["objectId"] == "data"
