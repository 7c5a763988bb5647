"""Generates the JSON Schemas and the AsyncAPI 3 document from the event classes.

`python -m messages.schemas` writes them to `messages/schemas/`; a test keeps the committed files equal to what the
classes say, so they are never written by hand.
"""

import json
from pathlib import Path
from typing import Any

from messages.events import EVENTS, RUN_ID_PATTERN, Event
from messages.topics import SUBSCRIPTIONS

SCHEMA_DIR = Path(__file__).parent / "schemas"
_CONTEXT = {
    "ce-specversion": {"type": "string", "const": "1.0"},
    "ce-id": {"type": "string", "description": "the same for every telling of the same fact"},
    "ce-source": {"type": "string", "description": "who says so"},
    "ce-subject": {"type": "string", "pattern": RUN_ID_PATTERN, "description": "run id"},
    "ce-time": {"type": "string", "format": "date-time"},
    "traceparent": {"type": "string", "description": "W3C trace context"},
    "ce-parentrun": {"type": "string", "pattern": RUN_ID_PATTERN, "description": "the run that this one tries again"},
    "content-type": {"type": "string", "const": "application/json"},
}
_REQUIRED = ["ce-id", "ce-type", "ce-subject", "ce-time"]


def json_schema(event: type[Event]) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the body of `event`."""
    schema = event.model_json_schema(mode="validation", by_alias=False)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"{event.TYPE}.json", **schema}


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI 3 document of all topics and who listens to them."""
    messages = {event.__name__: _message(event) for event in EVENTS}
    channels = {
        event.TOPIC: {
            "address": event.TOPIC,
            "description": (event.__doc__ or "").strip(),
            "messages": {event.__name__: {"$ref": f"#/components/messages/{event.__name__}"}},
        }
        for event in EVENTS
    }
    operations = {
        subscription: {"action": "receive", "channel": {"$ref": f"#/channels/{topic}"}}
        for subscription, topic in SUBSCRIPTIONS.items()
        if topic in channels
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Baton",
            "version": "1",
            "description": "The events of a choreographed ML pipeline.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages},
    }


def files() -> dict[str, str]:
    """Return every generated file: name -> text."""
    documents = {f"{event.TYPE}.json": json_schema(event) for event in EVENTS} | {"asyncapi.json": asyncapi()}
    return {name: json.dumps(document, indent=2, ensure_ascii=False) + "\n" for name, document in documents.items()}


def main() -> None:
    SCHEMA_DIR.mkdir(exist_ok=True)
    for name, text in files().items():
        (SCHEMA_DIR / name).write_text(text, encoding="utf-8")


def _message(event: type[Event]) -> dict[str, Any]:
    context = {"ce-type": {"type": "string", "const": event.TYPE}, **_CONTEXT}
    return {
        "name": event.TYPE,
        "summary": (event.__doc__ or "").strip().splitlines()[0],
        "headers": {"type": "object", "properties": context, "required": _REQUIRED},
        "payload": {
            "schemaFormat": "application/schema+json;version=draft-2020-12",
            "schema": {"$ref": f"./{event.TYPE}.json"},
        },
    }


if __name__ == "__main__":
    main()
