"""Reads what may arrive on data-ready: our event, a bucket notification, a trigger file's notification, or bare JSON.

Bare JSON is what `gcloud pubsub topics publish data-ready --message '{"pipeline": …, "source": …}'` sends: it has no run
id, so the message's id names the run; Pub/Sub keeps that over redeliveries, and a redriven one carries its first id along.
"""

from datetime import UTC, datetime

from messages import DataReady, DecodeError, Envelope, Filtered
from messages.codec import parse_object, validate
from messages.identity import bare_run_id
from messages.triggers import StoredObject, data_ready_of, is_notification, parse_notification, read_trigger
from workers.intake import Message, Reader, read_event
from workers.pipeline import Catalog
from workers.sources import Sources


def read_data_ready(catalog: Catalog, sources: Sources) -> Reader:
    """Return the reader of the first topic."""
    read_ours = read_event(DataReady)

    def read(message: Message) -> Envelope:
        if is_notification(message.attributes):
            return _from_notification(message, catalog, sources)
        if "ce-type" in message.attributes:
            return read_ours(message)
        return _from_bare_json(message)

    return read


def _from_notification(message: Message, catalog: Catalog, sources: Sources) -> Envelope:
    stored = parse_notification(message.attributes)
    if stored.is_trigger:
        event = read_trigger(_content(stored, sources), stored)
    else:
        event = data_ready_of(stored, _pipeline_of(stored, catalog))
    return Envelope(
        id=f"{stored.run_id}.data-ready",
        run_id=stored.run_id,
        source=f"//storage.googleapis.com/{stored.bucket}",
        time=_event_time(message),
        event=event,
    )


def _pipeline_of(stored: StoredObject, catalog: Catalog) -> str:
    if stored.pipeline is not None:
        return stored.pipeline
    spec = catalog.triggered_by(stored.name)
    if spec is None:
        raise Filtered(
            f"object {stored.uri!r} lies under no pipeline's [trigger] prefix, "
            "and its notification has no attribute `pipeline`"
        )
    return spec.name


def _content(stored: StoredObject, sources: Sources) -> bytes:
    content = sources.read(stored.bucket, stored.name, stored.generation)
    if content is None:
        raise DecodeError(stored.uri, f"generation {stored.generation}", "this trigger file is gone; write it again")
    return content


def _from_bare_json(message: Message) -> Envelope:
    body = parse_object(message.data, "data")
    event = validate(DataReady, body, "data")
    run_id = bare_run_id(message.attributes, message.message_id)
    return Envelope(
        id=f"{run_id}.data-ready", run_id=run_id, source="//pubsub.googleapis.com", time=datetime.now(UTC), event=event
    )


def _event_time(message: Message) -> datetime:
    try:
        time = datetime.fromisoformat(message.attributes.get("eventTime", ""))
    except ValueError:
        return datetime.now(UTC)  # only for the timeline: a notification without its time is still new data
    return time.astimezone(UTC)
