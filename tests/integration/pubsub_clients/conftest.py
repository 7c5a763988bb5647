"""A broker for stock clients: they know PUBSUB_EMULATOR_HOST and nothing else of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from google.cloud import pubsub_v1

from localcloud.pubsub import PubSubServer
from tests.support.loop_thread import LoopThread

PROJECT = "stock-clients"


@dataclass
class Broker:
    """A running broker."""

    server: PubSubServer
    thread: LoopThread
    address: str

    def topic(self, name: str) -> str:
        return f"projects/{PROJECT}/topics/{name}"

    def subscription(self, name: str) -> str:
        return f"projects/{PROJECT}/subscriptions/{name}"


@pytest.fixture
def broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    with LoopThread() as thread:
        server = PubSubServer(data_dir=tmp_path)
        address = f"127.0.0.1:{thread.start(server)}"
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", address)
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", PROJECT)
        yield Broker(server, thread, address)


@pytest.fixture
def publisher(broker: Broker) -> Iterator[pubsub_v1.PublisherClient]:
    client = pubsub_v1.PublisherClient(
        publisher_options=pubsub_v1.types.PublisherOptions(enable_message_ordering=True),
    )
    yield client
    client.stop()
    client.transport.close()


@pytest.fixture
def subscriber(broker: Broker) -> Iterator[pubsub_v1.SubscriberClient]:
    with pubsub_v1.SubscriberClient() as client:
        yield client
