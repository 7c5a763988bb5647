"""A Cloud Storage to test: our server, and another one too if STORAGE_EMULATOR_ADDRESS says where it is."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from localcloud.storage import StorageServer
from tests.contract.storage.wire import Wire
from tests.support.loop_thread import LoopThread

PROJECT = "baton-local"


@dataclass
class Event:
    topic: str
    data: bytes
    attributes: dict[str, str]


@dataclass
class Broker:
    """Takes events as the broker would; `refusing` names topics that it refuses."""

    events: list[Event] = field(default_factory=list)
    refusing: set[str] = field(default_factory=set)

    async def publish(self, topic: str, data: bytes, attributes: dict[str, str]) -> str:
        if topic in self.refusing:
            raise LookupError(f"topic {topic} does not exist")
        self.events.append(Event(topic, data, attributes))
        return str(len(self.events))

    def of(self, event_type: str) -> list[Event]:
        return [event for event in self.events if event.attributes["eventType"] == event_type]


@pytest.fixture(scope="module")
def loop() -> Iterator[LoopThread]:
    with LoopThread() as thread:
        yield thread


@pytest.fixture(scope="module")
def broker() -> Broker:
    return Broker()


@pytest.fixture(scope="module")
def our_port(loop: LoopThread, broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> int:
    """One server for a module's tests: each uses a bucket of its own."""
    data_dir: Path = tmp_path_factory.mktemp("storage")
    return loop.start(StorageServer(data_dir=data_dir, publish=broker.publish))


def _addresses() -> list[str]:
    given = os.environ.get("STORAGE_EMULATOR_ADDRESS", "")
    return ["ours", *([given] if given else [])]


@pytest.fixture(params=_addresses())
def address(request: pytest.FixtureRequest, our_port: int) -> str:
    return f"http://127.0.0.1:{our_port}" if request.param == "ours" else request.param


def connect(address: str) -> storage.Client:
    return storage.Client(project=PROJECT, credentials=AnonymousCredentials(), client_options={"api_endpoint": address})


@pytest.fixture
def client(address: str) -> Iterator[storage.Client]:
    """The stock client, of one thread."""
    with contextlib.closing(connect(address)) as made:
        yield made


@pytest.fixture
def clients(address: str) -> Iterator[list[storage.Client]]:
    """Sixteen stock clients, to race."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(contextlib.closing(connect(address))) for _ in range(16)]


@pytest.fixture
def bucket(client: storage.Client) -> storage.Bucket:
    return client.create_bucket(f"bucket-{uuid.uuid4().hex}")


@pytest.fixture
def wire(our_port: int) -> Iterator[Wire]:
    made = Wire(our_port)
    yield made
    made.close()
