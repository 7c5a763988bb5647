"""The committed schemas are what the classes say."""

from messages.schemas import SCHEMA_DIR, asyncapi, files
from messages.topics import SUBSCRIPTIONS


def test_the_committed_schemas_are_generated() -> None:
    """Run `python -m messages.schemas` after a change of an event."""
    committed = {path.name: path.read_text(encoding="utf-8") for path in SCHEMA_DIR.glob("*.json")}
    assert committed == files()


def test_asyncapi_tells_every_reference() -> None:
    """Every channel an operation names exists, and every message a channel names."""
    document = asyncapi()
    for operation in document["operations"].values():
        assert operation["channel"]["$ref"].removeprefix("#/channels/") in document["channels"]
    for channel in document["channels"].values():
        for message in channel["messages"].values():
            assert message["$ref"].removeprefix("#/components/messages/") in document["components"]["messages"]
    assert set(document["operations"]) < set(SUBSCRIPTIONS)
