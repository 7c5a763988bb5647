"""The protocol's message classes, and the few messages that are written byte by byte.

The classes come from a descriptor pool of our own, so that the broker and Google's client can live in one process.
A delivered message is never parsed or encoded again: its stored bytes are spliced into the response, for that is where a
broker in Python would otherwise spend most of its time.
"""

import base64
import zlib
from collections.abc import Iterable
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, empty_pb2, message_factory

from localcloud.pubsub.wire_descriptors import FILES

_PACKAGE = "google.pubsub.v1."


def _build_pool() -> Any:
    pool = descriptor_pool.DescriptorPool()
    files = descriptor_pb2.FileDescriptorSet.FromString(zlib.decompress(base64.b64decode("".join(FILES))))
    for file in files.file:
        pool.Add(file)
    return pool


_POOL = _build_pool()


def message_class(name: str, package: str = _PACKAGE) -> Any:
    """The message class `google.pubsub.v1.<name>`.

    Raises:
        KeyError: the protocol has no such message.
    """
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(package + name))


Topic = message_class("Topic")
Subscription = message_class("Subscription")
Snapshot = message_class("Snapshot")
Schema = message_class("Schema")
PubsubMessage = message_class("PubsubMessage")
PullResponse = message_class("PullResponse")
StreamingPullRequest = message_class("StreamingPullRequest")
StreamingPullResponse = message_class("StreamingPullResponse")
Timestamp = message_class("Timestamp", "google.protobuf.")
Duration = message_class("Duration", "google.protobuf.")
Empty = empty_pb2.Empty

_ONE_BYTE = [bytes((n,)) for n in range(128)]


def varint(number: int) -> bytes:
    """Protocol-buffer encoding of a non-negative integer."""
    if number < 128:
        return _ONE_BYTE[number]
    if number < 16384:
        return bytes((number & 127 | 128, number >> 7))
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(tag: int, payload: bytes) -> bytes:
    """A length-delimited field whose number is under 16."""
    return _ONE_BYTE[tag << 3 | 2] + varint(len(payload)) + payload


def stored_message(message: Any, message_id: int, time_field: bytes) -> bytes:
    """Serialised PubsubMessage with the server's id and time; what the publisher put in these two fields is ignored.

    Args:
        time_field: `publish_time_field`, the same for all messages of a request.
    """
    if message.message_id:
        message.ClearField("message_id")
    if message.HasField("publish_time"):
        message.ClearField("publish_time")
    digits = b"%d" % message_id
    # Field 3 is message_id; later fields of a message win, so appending is enough.
    return b"%b\x1a%c%b%b" % (message.SerializeToString(), len(digits), digits, time_field)


def publish_time_field(published_us: int) -> bytes:
    """The field `publish_time`, ready to append to a serialised message."""
    seconds, micros = divmod(published_us, 1_000_000)
    time = b"\x08" + varint(seconds)
    if micros:
        time += b"\x10" + varint(micros * 1000)
    return field(4, time)


def received_messages(deliveries: Iterable[tuple[str, bytes, int]]) -> bytes:
    """Field 1 of PullResponse and of StreamingPullResponse, from (ack id, stored message, delivery attempt or 0)."""
    parts: list[bytes] = []
    for ack_id, body, attempt in deliveries:
        ack = ack_id.encode("ascii")
        head = b"\x0a" + varint(len(ack)) + ack + b"\x12" + varint(len(body))
        tail = b"\x18" + varint(attempt) if attempt else b""
        parts += (b"\x0a", varint(len(head) + len(body) + len(tail)), head, body, tail)
    return b"".join(parts)


def subscription_properties(*, is_exactly_once: bool, is_ordered: bool) -> bytes:
    """Field 4 of StreamingPullResponse."""
    return field(4, (b"\x08\x01" if is_exactly_once else b"") + (b"\x10\x01" if is_ordered else b""))


def to_us(stamp_or_duration: Any) -> int:
    """Microseconds of a Timestamp or Duration message."""
    return int(stamp_or_duration.seconds) * 1_000_000 + int(stamp_or_duration.nanos) // 1000


def to_s(stamp_or_duration: Any) -> float:
    """Seconds of a Timestamp or Duration message."""
    return float(stamp_or_duration.seconds + stamp_or_duration.nanos / 1e9)


def set_us(stamp_or_duration: Any, micros: int) -> None:
    """Write microseconds into a Timestamp or Duration message."""
    stamp_or_duration.seconds, rest = divmod(micros, 1_000_000)
    stamp_or_duration.nanos = rest * 1000
