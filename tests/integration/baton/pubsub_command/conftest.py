"""What tests of `baton pubsub` share: our broker and Google's emulator as processes, and the command in this process."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.api_core import exceptions as google_errors
from google.pubsub_v1.services.publisher import PublisherClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber import SubscriberClient
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from baton.__main__ import run
from baton.pubsub import inspection
from tests.integration.baton.conftest import Answer
from tests.support.google_emulator import google_emulator
from tests.support.part_process import PartProcess


@dataclass
class PubSub:
    """A Pub/Sub at an address, and a project of its own in it."""

    address: str
    project: str
    channel: Any = field(init=False)

    def __post_init__(self) -> None:
        self.channel = grpc.insecure_channel(self.address)
        self.publisher = PublisherClient(transport=PublisherGrpcTransport(channel=self.channel))
        self.subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=self.channel))

    def topic(self, name: str, **fields: Any) -> None:
        self.publisher.create_topic(request={"name": f"projects/{self.project}/topics/{name}", **fields})

    def subscribe(self, name: str, topic: str, **fields: Any) -> None:
        request = {"name": self.path(name), "topic": f"projects/{self.project}/topics/{topic}", **fields}
        self.subscriber.create_subscription(request=request)

    def publish(self, topic: str, *data: bytes, **fields: Any) -> list[str]:
        ids: list[str] = []
        for begin in range(0, len(data), 500):
            messages = [{"data": item, **fields} for item in data[begin : begin + 500]]
            request = {"topic": f"projects/{self.project}/topics/{topic}", "messages": messages}
            ids += self.publisher.publish(request=request, timeout=20).message_ids
        return ids

    def pull(self, subscription: str, count: int = 1000) -> list[Any]:
        request = {"subscription": self.path(subscription), "max_messages": count}
        try:
            return list(self.subscriber.pull(request=request, timeout=1.0, retry=None).received_messages)
        except google_errors.DeadlineExceeded:
            return []  # how Google's emulator says that there is nothing

    def path(self, subscription: str) -> str:
        return f"projects/{self.project}/subscriptions/{subscription}"

    def subscriptions(self) -> list[str]:
        found = self.subscriber.list_subscriptions(project=f"projects/{self.project}")
        return [item.name.rpartition("/")[2] for item in found]

    @property
    def environment(self) -> dict[str, str]:
        return {"PUBSUB_EMULATOR_HOST": self.address, "GOOGLE_CLOUD_PROJECT": self.project}


Command = Callable[..., Answer]


@pytest.fixture(scope="session")
def broker_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PartProcess]:
    with PartProcess("pubsub", tmp_path_factory.mktemp("pubsub") / "data") as process:
        yield process


@pytest.fixture(scope="session")
def _google_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with google_emulator(tmp_path_factory.mktemp("emulator")) as address:
        yield address


@pytest.fixture
def project() -> str:
    return f"p{uuid.uuid4().hex[:12]}"


@pytest.fixture
def pubsub(broker_process: PartProcess, project: str) -> Iterator[PubSub]:
    """Our broker."""
    made = PubSub(broker_process.output()["PUBSUB_EMULATOR_HOST"], project)
    yield made
    made.channel.close()


@pytest.fixture
def google(_google_address: str, project: str) -> Iterator[PubSub]:
    """Google's emulator."""
    made = PubSub(_google_address, project)
    yield made
    made.channel.close()


def commander(pubsub: PubSub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    for name, value in pubsub.environment.items():
        monkeypatch.setenv(name, value)

    def command(*arguments: str) -> Answer:
        capsys.readouterr()
        code = run(["pubsub", *arguments])
        said = capsys.readouterr()
        return Answer(code, said.out, said.err)

    return command


@pytest.fixture
def command(pubsub: PubSub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `baton pubsub …` in this process."""
    return commander(pubsub, monkeypatch, capsys)


@pytest.fixture
def without_inspection(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the cloud is: all but the broker's own window into itself."""
    monkeypatch.setattr(inspection, "_ask", lambda connections, method, wanted: None)
