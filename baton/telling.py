"""Tells an event on a person's behalf, under the id that the stage before would give it: whoever says it, it is one fact."""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from baton.connections import Connections, explaining
from baton.errors import Refused
from messages import DecodeError, Event
from messages.codec import validate
from messages.errors import shorten
from workers.publisher import publish_event

SOURCE = "//baton/client"


def event_of(kind: type[Event], pipeline: str, body: Mapping[str, Any], params: Mapping[str, Any] | None) -> Event:
    """Build an event from what a person gave.

    Raises:
        Refused: a field cannot be used; with the mend.
    """
    try:
        return validate(kind, {"pipeline": pipeline, **body, "params": dict(params or {})}, kind.TOPIC)
    except DecodeError as fault:
        raise Refused(f"{fault.field} = {shorten(fault.value)} cannot be used", fault.mend) from fault


def check(connections: Connections, event: Event) -> None:
    """Refuse here what the worker would have to put aside; without a folder of pipelines the worker decides.

    Raises:
        Refused: the pipeline or a parameter is not known.
    """
    if connections.profile.pipelines_dir.is_dir():
        with explaining():
            connections.catalog.get(event.pipeline).resolve(event.params)


def tell(connections: Connections, event: Event, run_id: str, parent_run: str | None = None) -> None:
    """Publish `event` for the run, to its own topic."""
    with explaining(f"topic {event.TOPIC}"):
        publish_event(
            connections.publisher,
            event,
            event_id=f"{run_id}.{event.TOPIC.replace('-done', '.done')}",
            run_id=run_id,
            source=SOURCE,
            time=datetime.now(UTC),
            traceparent=os.environ.get("TRACEPARENT"),
            parent_run=parent_run,
        )
