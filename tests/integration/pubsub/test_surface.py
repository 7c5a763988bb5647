"""The whole surface of google.pubsub.v1 answers, over the wire, with the service's status codes."""

import inspect
import re
from typing import Any

import grpc
import pytest
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.schema_service.transports import SchemaServiceGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from localcloud.pubsub import wire
from tests.integration.pubsub.conftest import Running

# Method -> (request, fields of a request that names something missing); from the services' definitions in pubsub.proto and
# schema.proto.
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "Publisher/CreateTopic": ("Topic", {"name": "projects/p/topics/new", "schema_settings": {"schema": "SCHEMA"}}),
    "Publisher/UpdateTopic": ("UpdateTopicRequest", {"topic": {"name": "TOPIC"}, "update_mask": {"paths": ["labels"]}}),
    "Publisher/Publish": ("PublishRequest", {"topic": "TOPIC", "messages": [{"data": b"x"}]}),
    "Publisher/GetTopic": ("GetTopicRequest", {"topic": "TOPIC"}),
    "Publisher/ListTopics": ("ListTopicsRequest", {}),
    "Publisher/ListTopicSubscriptions": ("ListTopicSubscriptionsRequest", {"topic": "TOPIC"}),
    "Publisher/ListTopicSnapshots": ("ListTopicSnapshotsRequest", {"topic": "TOPIC"}),
    "Publisher/DeleteTopic": ("DeleteTopicRequest", {"topic": "TOPIC"}),
    "Publisher/DetachSubscription": ("DetachSubscriptionRequest", {"subscription": "SUBSCRIPTION"}),
    "Subscriber/CreateSubscription": ("Subscription", {"name": "projects/p/subscriptions/new", "topic": "TOPIC"}),
    "Subscriber/GetSubscription": ("GetSubscriptionRequest", {"subscription": "SUBSCRIPTION"}),
    "Subscriber/UpdateSubscription": (
        "UpdateSubscriptionRequest",
        {"subscription": {"name": "SUBSCRIPTION"}, "update_mask": {"paths": ["labels"]}},
    ),
    "Subscriber/ListSubscriptions": ("ListSubscriptionsRequest", {}),
    "Subscriber/DeleteSubscription": ("DeleteSubscriptionRequest", {"subscription": "SUBSCRIPTION"}),
    "Subscriber/ModifyAckDeadline": (
        "ModifyAckDeadlineRequest",
        {"subscription": "SUBSCRIPTION", "ack_ids": ["1.2.3-4"]},
    ),
    "Subscriber/Acknowledge": ("AcknowledgeRequest", {"subscription": "SUBSCRIPTION", "ack_ids": ["1.2.3-4"]}),
    "Subscriber/Pull": ("PullRequest", {"subscription": "SUBSCRIPTION", "max_messages": 1}),
    "Subscriber/StreamingPull": (
        "StreamingPullRequest",
        {"subscription": "SUBSCRIPTION", "stream_ack_deadline_seconds": 10},
    ),
    "Subscriber/ModifyPushConfig": ("ModifyPushConfigRequest", {"subscription": "SUBSCRIPTION"}),
    "Subscriber/GetSnapshot": ("GetSnapshotRequest", {"snapshot": "SNAPSHOT"}),
    "Subscriber/ListSnapshots": ("ListSnapshotsRequest", {}),
    "Subscriber/CreateSnapshot": (
        "CreateSnapshotRequest",
        {"name": "projects/p/snapshots/new", "subscription": "SUBSCRIPTION"},
    ),
    "Subscriber/UpdateSnapshot": (
        "UpdateSnapshotRequest",
        {"snapshot": {"name": "SNAPSHOT"}, "update_mask": {"paths": ["labels"]}},
    ),
    "Subscriber/DeleteSnapshot": ("DeleteSnapshotRequest", {"snapshot": "SNAPSHOT"}),
    "Subscriber/Seek": ("SeekRequest", {"subscription": "SUBSCRIPTION", "time": {"seconds": 1}}),
    "SchemaService/CreateSchema": ("CreateSchemaRequest", {}),
    "SchemaService/GetSchema": ("GetSchemaRequest", {"name": "SCHEMA"}),
    "SchemaService/ListSchemas": ("ListSchemasRequest", {}),
    "SchemaService/ListSchemaRevisions": ("ListSchemaRevisionsRequest", {"name": "SCHEMA"}),
    "SchemaService/CommitSchema": ("CommitSchemaRequest", {"name": "SCHEMA"}),
    "SchemaService/RollbackSchema": ("RollbackSchemaRequest", {"name": "SCHEMA", "revision_id": "00000000"}),
    "SchemaService/DeleteSchemaRevision": (
        "DeleteSchemaRevisionRequest",
        {"name": "SCHEMA", "revision_id": "00000000"},
    ),
    "SchemaService/DeleteSchema": ("DeleteSchemaRequest", {"name": "SCHEMA"}),
    "SchemaService/ValidateSchema": ("ValidateSchemaRequest", {}),
    "SchemaService/ValidateMessage": (
        "ValidateMessageRequest",
        {"parent": "projects/p", "name": "SCHEMA", "encoding": 1},
    ),
}
MISSING = {
    "TOPIC": "projects/p/topics/missing",
    "SUBSCRIPTION": "projects/p/subscriptions/missing",
    "SNAPSHOT": "projects/p/snapshots/missing",
    "SCHEMA": "projects/p/schemas/missing",
}


def refusal(running: Running, method: str, request: Any) -> grpc.RpcError:
    """Send the request and return how it was refused."""
    path, raw = f"/google.pubsub.v1.{method}", request.SerializeToString()
    if method.endswith("/StreamingPull"):
        answers = running.channel.stream_stream(path)(iter([raw]), timeout=10)
        with pytest.raises(grpc.RpcError) as refused:
            next(answers)
        return refused.value
    with pytest.raises(grpc.RpcError) as refused:
        running.channel.unary_unary(path)(raw, timeout=10)
    return refused.value


def named(fields: Any) -> Any:
    """Put the names of missing resources in."""
    if isinstance(fields, dict):
        return {key: named(value) for key, value in fields.items()}
    return MISSING.get(fields, fields) if isinstance(fields, str) else fields


def test_every_method_of_the_protocol_is_there(running: Running) -> None:
    """All that the official client calls, and nothing else but the window into the broker."""
    transports = (PublisherGrpcTransport, SubscriberGrpcTransport, SchemaServiceGrpcTransport)
    called = {
        path for made in transports for path in re.findall(r'"(/google\.pubsub\.v1\.\w+/\w+)"', inspect.getsource(made))
    }
    served = {path for service in running.server._services() for path, _ in service}
    ours = {path for path in served if not path.startswith("/google.pubsub.v1.")}
    assert ours == {"/localcloud.pubsub.Inspection/Stats", "/localcloud.pubsub.Inspection/Peek"}
    assert served - ours == called == {f"/google.pubsub.v1.{method}" for method in METHODS}


@pytest.mark.parametrize("method", METHODS)
def test_an_empty_request_is_an_invalid_argument(running: Running, method: str) -> None:
    """With words, and never a defect of the server's."""
    refused = refusal(running, method, wire.message_class(METHODS[method][0])())
    assert refused.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert len(refused.details()) > 20


@pytest.mark.parametrize("method", [method for method, (_, fields) in METHODS.items() if fields])
def test_what_is_missing_is_not_found_by_its_name(running: Running, method: str) -> None:
    """A list of nothing is empty; everything else names what is not there."""
    request, fields = METHODS[method]
    refused = refusal(running, method, wire.message_class(request)(**named(fields)))
    assert refused.code() == grpc.StatusCode.NOT_FOUND
    assert any(name in refused.details() for name in MISSING.values())
    assert "create it first" in refused.details()


@pytest.mark.parametrize("path", ["google.iam.v1.IAMPolicy/GetIamPolicy", "google.pubsub.v1.Publisher/Nonsense"])
def test_what_is_not_built_names_itself(running: Running, path: str) -> None:
    """UNIMPLEMENTED, so that a client does not try again."""
    with pytest.raises(grpc.RpcError) as refused:
        running.channel.unary_unary(f"/{path}")(b"", timeout=10)
    assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert path in refused.value.details()


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        (
            "Publisher/CreateTopic",
            wire.Topic(name="projects/p/topics/new", message_transforms=[{}]),
            "message_transforms",
        ),
        (
            "Publisher/CreateTopic",
            wire.Topic(name="projects/p/topics/new", ingestion_data_source_settings={"aws_kinesis": {}}),
            "ingestion_data_source_settings",
        ),
        (
            "Subscriber/CreateSubscription",
            wire.Subscription(
                name="projects/p/subscriptions/new", topic=MISSING["TOPIC"], bigtable_config={"table": "t"}
            ),
            "bigtable_config",
        ),
        (
            "Subscriber/CreateSubscription",
            wire.Subscription(name="projects/p/subscriptions/new", topic=MISSING["TOPIC"], message_transforms=[{}]),
            "message_transforms",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_field_that_is_not_built_names_itself(running: Running, method: str, request_: Any, field: str) -> None:
    """Rather than be kept without effect."""
    refused = refusal(running, method, request_)
    assert refused.code() == grpc.StatusCode.UNIMPLEMENTED
    assert field in refused.details()
    assert "/new" in refused.details()
