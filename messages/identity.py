"""Which run a message belongs to, told from its attributes and its id alone.

Whoever asks twice gets the same answer: that is what makes an event told twice one run. Bare JSON has no id of its own, so
the message's names the run; sent again out of the dead letters it has a new message id, and carries the first one along.
"""

import re
from collections.abc import Mapping

from messages.errors import DecodeError, Filtered
from messages.events import is_run_id
from messages.triggers import is_notification, parse_notification

ORIGINAL_ID = "baton-redriven-message-id"
"""Attribute of a redriven message: the id under which it was first published."""

LETTER = "baton-redriven-letter"
"""Attribute of a redriven message: the key of the dead letter that it was."""

_MESSAGE_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")


def original_message_id(attributes: Mapping[str, str], message_id: str) -> str:
    """Return the id under which the message was first published; a redriven one says so, if it says it readably."""
    first = attributes.get(ORIGINAL_ID, "")
    return first if _MESSAGE_ID.fullmatch(first) else message_id


def letter_key(attributes: Mapping[str, str]) -> str:
    """Return the dead letter that a redriven message was, or "" where it says none readably."""
    key = attributes.get(LETTER, "")
    return key if _MESSAGE_ID.fullmatch(key) else ""


def is_bare(attributes: Mapping[str, str]) -> bool:
    """Tell whether a message is neither an event of ours nor a notification: its own id names its run."""
    return "ce-type" not in attributes and not is_notification(attributes)


def bare_run_id(attributes: Mapping[str, str], message_id: str) -> str:
    """Return the run that bare JSON starts."""
    first = original_message_id(attributes, message_id)
    return "m-" + re.sub(r"[^a-z0-9]+", "-", first.lower()).strip("-")[:60].strip("-")


def run_id_of(attributes: Mapping[str, str], message_id: str) -> str:
    """Return the run that a message belongs to, or "" where it names none that could be."""
    if is_notification(attributes):
        try:
            return parse_notification(attributes).run_id
        except (DecodeError, Filtered):
            return ""
    if "ce-type" in attributes:
        subject = attributes.get("ce-subject", "")
        return subject if is_run_id(subject) else ""
    return bare_run_id(attributes, message_id)
