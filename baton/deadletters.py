"""Looks at the dead letters without taking them: messages that no worker could use, each with its reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.api_core import exceptions as google_errors

from messages.dead_letters import origin_of
from messages.identity import run_id_of
from messages.topics import DEAD_LETTER_SUBSCRIPTION, subscription_path

_PULL_TIMEOUT_S = 1.0
_AT_MOST = 100


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was put aside; `run_id` is the run that it would have belonged to, "" where it names none."""

    message_id: str
    run_id: str
    reason: str
    topic: str


def peek(subscriber: Any, project: str) -> list[DeadLetter]:
    """Return up to 100 dead letters; each is given back at once, so whoever redrives them finds them again."""
    path = subscription_path(project, DEAD_LETTER_SUBSCRIPTION)
    try:
        answer = subscriber.pull(
            request={"subscription": path, "max_messages": _AT_MOST}, timeout=_PULL_TIMEOUT_S, retry=None
        )
    except google_errors.DeadlineExceeded:
        return []  # how an empty subscription answers
    received = list(answer.received_messages)
    if received:
        subscriber.modify_ack_deadline(
            request={"subscription": path, "ack_ids": [r.ack_id for r in received], "ack_deadline_seconds": 0}
        )
    return [_dead_letter(r.message.message_id, dict(r.message.attributes)) for r in received]


def _dead_letter(message_id: str, attributes: Mapping[str, str]) -> DeadLetter:
    origin = origin_of(attributes)
    run_id = run_id_of(attributes, origin.message_id or message_id)
    return DeadLetter(message_id, run_id, origin.reason, origin.topic)
