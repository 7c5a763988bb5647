"""What the tests of dead letters have in common."""

import json

from baton.client import Client
from baton.dlq.letter import DeadLetter
from tests.support.house import House
from tests.support.waiting import wait_until

WAIT_S = 60


def put_aside(home: House, body: bytes, **attributes: str) -> str:
    """Publish a message that no worker can use; return its id."""
    return home.publish("data-ready", body, attributes)


def bad(**body: object) -> bytes:
    return json.dumps({"pipeline": "quick", "source": "gs://data/births.csv", **body}).encode()


def arrived(client: Client, key: str) -> DeadLetter:
    """Return the letter once it is there."""
    wait_until(lambda: any(found.key == key for found in client.dead_letters()), WAIT_S, f"dead letter {key}")
    return client.dead_letter(key)


def served(client: Client, run_id: str) -> None:
    wait_until(lambda: client.look(run_id).state.value == "succeeded", WAIT_S, f"run {run_id}")


def notes(client: Client) -> list[str]:
    """Return the messages of data-ready that were duplicates."""
    names = client.connections.objects.list("fates/preprocess-worker/")
    found = (name.removeprefix("fates/preprocess-worker/").removesuffix(".json") for name in names)
    return [m for m in found if (client.connections.ledger.fate("preprocess-worker", m) or {})["fate"] == "duplicate"]
