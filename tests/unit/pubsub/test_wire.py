"""The message classes and what is written byte by byte."""

import pytest

from localcloud.pubsub import wire
from localcloud.pubsub.wire_generate import descriptor_set


def test_descriptors_are_those_of_the_installed_client() -> None:
    """We know every field the installed client knows; else run `python -m localcloud.pubsub.wire_generate`."""
    from google.protobuf import descriptor_pb2

    for file in descriptor_pb2.FileDescriptorSet.FromString(descriptor_set()).file:
        if file.package != "google.pubsub.v1":
            continue
        for message in file.message_type:
            known = set(wire.message_class(message.name).DESCRIPTOR.fields_by_name)
            assert {field.name for field in message.field} <= known, message.name


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 16383, 16384, 2**31, 2**40, 2**63 - 1])
def test_varint_is_what_the_library_writes(number: int) -> None:
    """Hand-written varints read back as the number."""
    assert wire.Timestamp.FromString(b"\x08" + wire.varint(number)).seconds == number


@pytest.mark.parametrize("size", [0, 1, 127, 128, 20_000, 3_000_000])
@pytest.mark.parametrize("attempt", [0, 1, 5, 200])
def test_spliced_response_reads_as_the_messages(size: int, attempt: int) -> None:
    """A response put together from stored bytes parses into the messages that were published."""
    message = wire.PubsubMessage(data=b"x" * size, attributes={"a": "b"}, ordering_key="k", message_id="forged")
    message.publish_time.seconds = 5
    stored = wire.stored_message(message, 42, wire.publish_time_field(1_750_000_000_000_001))
    response = wire.PullResponse.FromString(wire.received_messages([("1.2.3-4", stored, attempt)] * 2))
    assert len(response.received_messages) == 2
    received = response.received_messages[1]
    assert received.ack_id == "1.2.3-4"
    assert received.delivery_attempt == attempt
    assert received.message.data == b"x" * size
    assert dict(received.message.attributes) == {"a": "b"}
    assert received.message.ordering_key == "k"
    assert received.message.message_id == "42"
    assert wire.to_us(received.message.publish_time) == 1_750_000_000_000_001


def test_subscription_properties_read_back() -> None:
    """The properties of a streaming response say what the subscription is."""
    both = wire.StreamingPullResponse.FromString(wire.subscription_properties(is_exactly_once=True, is_ordered=True))
    assert both.subscription_properties.exactly_once_delivery_enabled
    assert both.subscription_properties.message_ordering_enabled
    none = wire.StreamingPullResponse.FromString(wire.subscription_properties(is_exactly_once=False, is_ordered=False))
    assert not none.subscription_properties.exactly_once_delivery_enabled
