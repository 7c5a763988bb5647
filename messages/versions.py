"""Which event types can be read, and how an older version becomes the current one.

A type is `baton.<fact>.v<N>`. When version N+1 of an event comes, its class moves to it and an upcaster from N is added
here; the golden files of every version ever published stay and keep decoding.
"""

from collections.abc import Callable, Mapping
from typing import Any

from messages.errors import DecodeError
from messages.events import EVENTS, Event

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

CURRENT: dict[str, type[Event]] = {event.TYPE: event for event in EVENTS}

# type as published -> (next type, how its body becomes the next one's)
UPCASTERS: dict[str, tuple[str, Upcaster]] = {}


def to_current(
    event_type: str,
    body: dict[str, Any],
    upcasters: Mapping[str, tuple[str, Upcaster]] = UPCASTERS,
    current: Mapping[str, type[Event]] = CURRENT,
) -> tuple[type[Event], dict[str, Any]]:
    """Return the class that reads `event_type` today, and the body brought up to it.

    Raises:
        DecodeError: no such type, or one newer than this worker.
    """
    published = event_type
    while event_type not in current and event_type in upcasters:
        event_type, upcast = upcasters[event_type]
        body = upcast(body)
    if event_type not in current:
        known = ", ".join(sorted([*current, *upcasters]))
        raise DecodeError("ce-type", published, f"publish one of {known}, or upgrade this worker if the type is newer")
    return current[event_type], body
