"""Tells an event on a person's behalf, under the id that the stage before would give it: whoever says it, it is one fact."""

import os
from datetime import UTC, datetime

from baton.connections import Connections, explaining
from messages import Event
from workers.publisher import publish_event

SOURCE = "//baton/client"


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
