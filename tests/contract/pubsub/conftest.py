"""The two brokers which every contract test runs against: ours, and Google's emulator where the machine has it.

Each test gets a project of its own, so that tests share a running broker and nothing else.
"""

import asyncio
import os
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.cloud import pubsub_v1
from google.pubsub_v1 import PublisherClient as RawPublisher
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from localcloud.pubsub import PubSubServer
from tests.support.google_emulator import google_emulator


@dataclass
class Broker:
    """A running broker, and how to reach it."""

    kind: str
    address: str
    project: str = field(default_factory=lambda: f"p{uuid.uuid4().hex[:12]}")

    @property
    def is_ours(self) -> bool:
        return self.kind == "ours"

    def topic_path(self, name: str) -> str:
        return f"projects/{self.project}/topics/{name}"

    def subscription_path(self, name: str) -> str:
        return f"projects/{self.project}/subscriptions/{name}"


@pytest.fixture(scope="session")
def _our_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Our broker on a thread with an event loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="pubsub-under-test")
    thread.start()
    server = PubSubServer(data_dir=tmp_path_factory.mktemp("pubsub"), min_ack_deadline_s=1)
    port = asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
    yield f"127.0.0.1:{port}"
    asyncio.run_coroutine_threadsafe(server.stop(0.1), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(scope="session")
def _emulator_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Google's emulator, where the machine has it."""
    with google_emulator(tmp_path_factory.mktemp("emulator")) as address:
        yield address


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "differs(what): Google's emulator breaks this promise, so it is held by ours alone; see docs/pubsub.md",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "broker" not in metafunc.fixturenames:
        return
    differs = metafunc.definition.get_closest_marker("differs")
    kinds: list[Any] = ["ours"]
    if differs is None:
        kinds.append("emulator")
    elif os.environ.get("PUBSUB_PROVE_DIFFERENCES"):
        # The emulator must then fail: a difference that is gone, or never was, is found out.
        kinds = [pytest.param("emulator", marks=pytest.mark.xfail(strict=True, reason=differs.args[0]))]
    metafunc.parametrize("broker", kinds, indirect=True)


@pytest.fixture
def broker(request: pytest.FixtureRequest) -> Broker:
    kind: str = request.param
    return Broker(kind, request.getfixturevalue("_our_address" if kind == "ours" else "_emulator_address"))


@pytest.fixture
def publisher(broker: Broker) -> Iterator[pubsub_v1.PublisherClient]:
    """The stock client over a channel as it makes it itself in emulator mode."""
    channel = grpc.insecure_channel(broker.address)
    client = pubsub_v1.PublisherClient(
        publisher_options=pubsub_v1.types.PublisherOptions(enable_message_ordering=True),
        transport=PublisherGrpcTransport(channel=channel),
    )
    yield client
    client.stop()
    channel.close()


@pytest.fixture
def raw_publisher(broker: Broker) -> Iterator[RawPublisher]:
    """The generated client, which sends a request as it is told to."""
    channel = grpc.insecure_channel(broker.address)
    yield RawPublisher(transport=PublisherGrpcTransport(channel=channel))
    channel.close()


@pytest.fixture
def subscriber(broker: Broker) -> Iterator[pubsub_v1.SubscriberClient]:
    channel = grpc.insecure_channel(broker.address)
    with pubsub_v1.SubscriberClient(transport=SubscriberGrpcTransport(channel=channel)) as client:
        yield client
    channel.close()


@pytest.fixture
def topic(broker: Broker, publisher: pubsub_v1.PublisherClient) -> str:
    path = broker.topic_path("births")
    publisher.create_topic(name=path)
    return path
