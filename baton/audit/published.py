"""What was published: one line a message, taken from the topic's second subscription."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from messages.dead_letters import digest_of
from messages.identity import letter_key, original_message_id, run_id_of


@dataclass(frozen=True, slots=True)
class Published:
    """One message of a topic of events.

    Args:
        time: when the service took it, RFC 3339 in UTC.
        run_id: the run that it belongs to, or "" where it names none.
        event_id: CloudEvents id; "" where it is none of our events.
        event_type: CloudEvents type, or what else it is: `notification`, `json`.
        first_id: the id under which it was first published; another than `message_id` where it was redriven.
        letter: the dead letter that it was, where it was redriven; "" otherwise.
        digest: over data and the publisher's attributes: it finds the message again where Pub/Sub forwards it nameless.
    """

    topic: str
    message_id: str
    time: str
    run_id: str
    event_id: str
    event_type: str
    first_id: str
    digest: str
    letter: str = ""

    def to_json(self) -> dict[str, str]:
        return asdict(self)

    @property
    def milliseconds(self) -> str:
        """The time as a dead letter of Pub/Sub's tells it: to a millisecond."""
        return to_milliseconds(self.time)


def published_of(topic: str, message: Any) -> Published:
    """Read a pulled Pub/Sub message."""
    attributes = dict(message.attributes)
    kind = "notification" if "notificationConfig" in attributes else "json"
    return Published(
        topic=topic,
        message_id=message.message_id,
        time=message.publish_time.astimezone(UTC).isoformat(),
        run_id=run_id_of(attributes, message.message_id),
        event_id=attributes.get("ce-id", "")[:200],
        event_type=attributes.get("ce-type", kind)[:200],
        first_id=original_message_id(attributes, message.message_id),
        digest=digest_of(message.data, attributes),
        letter=letter_key(attributes),
    )


def to_milliseconds(text: str) -> str:
    """Return an RFC 3339 time cut to milliseconds, in UTC; "" where it is none."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return ""
    return time.astimezone(UTC).isoformat(timespec="milliseconds") if time.tzinfo else ""
