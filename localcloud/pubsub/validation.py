"""The service's limits, checked before anything changes. Numbers: cloud.google.com/pubsub/quotas, and the proto comments."""

from typing import Any
from urllib.parse import urlsplit

from localcloud.pubsub import names, wire
from localcloud.pubsub.errors import InvalidArgument, OutOfRange, Unimplemented

MAX_PUBLISH_MESSAGES = 1000
MAX_PUBLISH_BYTES = 10_000_000
MAX_ATTRIBUTES = 100
MAX_ATTRIBUTE_KEY_BYTES = 256
MAX_ATTRIBUTE_VALUE_BYTES = 1024
MAX_ORDERING_KEY_BYTES = 1024
MAX_ACK_REQUEST_BYTES = 512 * 1024
_NOT_OFFERED = ("bigtable_config", "message_transforms")
MAX_LABELS = 64
MAX_LABEL = 63
_DAY_S = 86_400.0


def publish_request(request: Any) -> None:
    """Check a PublishRequest: all its messages are taken, or none.

    Raises:
        InvalidArgument: a limit is broken; the message names which and where.
    """
    messages = request.messages
    if not 1 <= len(messages) <= MAX_PUBLISH_MESSAGES:
        raise InvalidArgument(
            f"{request.topic}: {len(messages)} messages in one request; send 1 to {MAX_PUBLISH_MESSAGES}."
        )
    if request.ByteSize() > MAX_PUBLISH_BYTES:
        raise InvalidArgument(
            f"The value for request_size is too large: {request.ByteSize()} bytes to {request.topic}; send at most "
            f"{MAX_PUBLISH_BYTES} in one request."
        )
    first_key = messages[0].ordering_key
    for index, message in enumerate(messages):
        attributes = message.attributes
        if attributes:
            _check_attributes(attributes, request.topic, index)
        elif not message.data:
            raise InvalidArgument(
                f"{request.topic}: messages[{index}] is empty; give it data or at least one attribute."
            )
        if message.ordering_key != first_key:
            raise InvalidArgument(
                f"{request.topic}: messages[{index}] has ordering key {message.ordering_key[:50]!r}, messages[0] has "
                f"{first_key[:50]!r}; send one request for each key."
            )
    if len(first_key.encode()) > MAX_ORDERING_KEY_BYTES:
        raise InvalidArgument(
            f"{request.topic}: an ordering key of {len(first_key.encode())} bytes; use at most {MAX_ORDERING_KEY_BYTES}."
        )


def _check_attributes(attributes: Any, topic: str, index: int) -> None:
    if len(attributes) > MAX_ATTRIBUTES:
        raise InvalidArgument(
            f"{topic}: messages[{index}] has {len(attributes)} attributes; use at most {MAX_ATTRIBUTES}."
        )
    for key, value in attributes.items():
        if not key or len(key.encode()) > MAX_ATTRIBUTE_KEY_BYTES:
            raise InvalidArgument(
                f"{topic}: messages[{index}] has an attribute key of {len(key.encode())} bytes ({key[:50]!r}); use 1 to "
                f"{MAX_ATTRIBUTE_KEY_BYTES}."
            )
        if key.startswith("goog") and not key.startswith("googclient_"):
            raise InvalidArgument(
                f"{topic}: messages[{index}] has the attribute {key[:50]!r}; keys must not begin with 'goog'."
            )
        if len(value.encode()) > MAX_ATTRIBUTE_VALUE_BYTES:
            raise InvalidArgument(
                f"{topic}: messages[{index}] has {len(value.encode())} bytes in attribute {key[:50]!r}; use at most "
                f"{MAX_ATTRIBUTE_VALUE_BYTES}."
            )


def _between(value_s: float, low_s: float, high_s: float, field: str, name: str) -> None:
    if not low_s <= value_s <= high_s:
        raise InvalidArgument(
            f"{field}={value_s:g} s of {name} is out of bounds; set it from {low_s:g} to {high_s:g} s."
        )


def duration(message: Any, field: str, low_s: float, high_s: float, name: str) -> None:
    """Check the Duration in a field of the resource `name`, if it is set.

    Raises:
        InvalidArgument: out of bounds.
    """
    if message.HasField(field):
        _between(wire.to_s(getattr(message, field)), low_s, high_s, field, name)


def topic(config: Any) -> None:
    """Check a Topic.

    Raises:
        InvalidArgument: a field is malformed.
    """
    names.check(config.name, "topics")
    labels(config.labels, config.name)
    duration(config, "message_retention_duration", 600, 31 * _DAY_S, config.name)


def subscription(config: Any, min_ack_deadline_s: int) -> None:
    """Check a Subscription's own fields; whether its topics exist is the caller's business.

    Raises:
        InvalidArgument: a field is malformed.
        OutOfRange: max_delivery_attempts is.
    """
    names.check(config.name, "subscriptions")
    labels(config.labels, config.name)
    if config.ack_deadline_seconds:
        _between(config.ack_deadline_seconds, min_ack_deadline_s, 600, "ack_deadline_seconds", config.name)
    duration(config, "message_retention_duration", 600, 31 * _DAY_S, config.name)
    if config.HasField("dead_letter_policy"):
        policy = config.dead_letter_policy
        names.check(policy.dead_letter_topic, "topics", "dead_letter_topic")
        if policy.max_delivery_attempts and not 5 <= policy.max_delivery_attempts <= 100:
            raise OutOfRange(
                f"max_delivery_attempts={policy.max_delivery_attempts} on {config.name}; set it from 5 to 100."
            )
    _check_delivery(config)
    if config.HasField("retry_policy"):
        _check_retry(config.retry_policy, config.name)
    if config.HasField("expiration_policy") and config.expiration_policy.HasField("ttl"):
        _between(wire.to_s(config.expiration_policy.ttl), _DAY_S, 3650 * _DAY_S, "expiration_policy.ttl", config.name)


def _check_delivery(config: Any) -> None:
    for field in _NOT_OFFERED:
        value = getattr(config, field)
        if len(value) if hasattr(value, "__len__") else config.HasField(field):
            raise Unimplemented(f"{config.name}: {field} is not offered by this local Pub/Sub; leave it out.")
    push, table, storage = config.push_config, config.bigquery_config.table, config.cloud_storage_config
    if sum(map(bool, (push.push_endpoint, table, storage.bucket))) > 1:
        raise InvalidArgument(f"{config.name} has more than one of push, BigQuery and Cloud Storage; choose one.")
    if table and len(table.replace(":", ".", 1).split(".")) != 3:
        raise InvalidArgument(
            f"bigquery_config.table={table[:200]!r} of {config.name} is malformed; write PROJECT.DATASET.TABLE."
        )
    if config.bigquery_config.use_table_schema and config.bigquery_config.use_topic_schema:
        raise InvalidArgument(f"{config.name} uses both the table's and the topic's schema; choose one.")
    duration(storage, "max_duration", 60, 600, config.name)
    if storage.max_messages and storage.max_messages < 1000:
        raise InvalidArgument(f"max_messages={storage.max_messages} on {config.name}; set at least 1000.")
    if storage.max_bytes and not 1000 <= storage.max_bytes <= 10 << 30:
        raise InvalidArgument(f"max_bytes={storage.max_bytes} on {config.name}; set it from 1000 to {10 << 30}.")
    if push.push_endpoint:
        parts = urlsplit(push.push_endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidArgument(
                f"push_endpoint={push.push_endpoint[:200]!r} of {config.name} is no http:// or https:// URL; give one."
            )


def _check_retry(policy: Any, name: str) -> None:
    duration(policy, "minimum_backoff", 0, 600, name)
    duration(policy, "maximum_backoff", 0, 600, name)
    if policy.HasField("maximum_backoff") and wire.to_s(policy.maximum_backoff) < wire.to_s(policy.minimum_backoff):
        raise InvalidArgument(
            f"maximum_backoff={wire.to_s(policy.maximum_backoff):g} s of {name} is less than "
            f"minimum_backoff={wire.to_s(policy.minimum_backoff):g} s; raise the maximum."
        )


def labels(values: Any, name: str) -> None:
    """Check the labels of the resource `name`. Source: cloud.google.com/pubsub/docs/labels.

    Raises:
        InvalidArgument: too many, one too long, or one of other characters.
    """
    if len(values) > MAX_LABELS:
        raise InvalidArgument(f"{name} has {len(values)} labels; use at most {MAX_LABELS}.")
    for key, value in values.items():
        is_fine = 0 < len(key) <= MAX_LABEL and len(value) <= MAX_LABEL and key[0].isalpha()
        if not (is_fine and all(map(_is_label_letter, key + value))):
            raise InvalidArgument(
                f"label {key[:80]!r}={value[:80]!r} of {name} cannot be kept; use at most {MAX_LABEL} lower-case letters, "
                "digits, hyphens and underscores, and begin the key with a letter."
            )


def _is_label_letter(letter: str) -> bool:
    """Letters of any language count, but no capitals."""
    return letter in "-_" or letter.isdecimal() or (letter.isalpha() and letter == letter.lower())


def ack_deadline(seconds: int, subscription_name: str) -> None:
    """Check the deadline of a ModifyAckDeadline.

    Raises:
        InvalidArgument: not from 0 to 600.
    """
    if not 0 <= seconds <= 600:
        raise InvalidArgument(
            f"ack_deadline_seconds={seconds} on {subscription_name} is out of bounds; set it from 0 to 600 s."
        )


def ack_request(request: Any) -> None:
    """Check the size of an Acknowledge or ModifyAckDeadline request.

    Raises:
        InvalidArgument: no ack ids, or too many bytes of them.
    """
    if not request.ack_ids:
        raise InvalidArgument(f"no ack ids for {request.subscription}; pass at least one.")
    if request.ByteSize() > MAX_ACK_REQUEST_BYTES:
        raise InvalidArgument(
            f"{request.ByteSize()} bytes of ack ids for {request.subscription}; send at most {MAX_ACK_REQUEST_BYTES} bytes."
        )
