"""The broker as a process of its own, killed without warning."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from localcloud.pubsub import wire


class Process:
    """A broker process over one data folder, which can be killed and started again on the same port."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "localcloud.pubsub", "--data-dir", str(self._data_dir)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip().partition("=")[2]
        self.channel = grpc.insecure_channel(self.address)

    def kill(self) -> None:
        self.channel.close()
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def call(self, method: str, request: object, answer: str) -> object:
        stub = self.channel.unary_unary(
            f"/google.pubsub.v1.{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=wire.Empty.FromString if answer == "Empty" else wire.message_class(answer).FromString,
        )
        return stub(request, timeout=20, wait_for_ready=True)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    started = Process(tmp_path)
    yield started
    started.kill()


TOPIC = "projects/p/topics/births"
SUBSCRIPTION = "projects/p/subscriptions/train"


def _create(process: Process, **fields: object) -> None:
    process.call("Publisher/CreateTopic", wire.Topic(name=TOPIC), "Topic")
    process.call(
        "Subscriber/CreateSubscription", wire.Subscription(name=SUBSCRIPTION, topic=TOPIC, **fields), "Subscription"
    )


def _publish(process: Process, *data: bytes) -> list[str]:
    request = wire.message_class("PublishRequest")(
        topic=TOPIC, messages=[wire.PubsubMessage(data=item) for item in data]
    )
    return list(process.call("Publisher/Publish", request, "PublishResponse").message_ids)  # type: ignore[attr-defined]


def _pull(process: Process, count: int = 100) -> dict[bytes, str]:
    request = wire.message_class("PullRequest")(subscription=SUBSCRIPTION, max_messages=count)
    answer = process.call("Subscriber/Pull", request, "PullResponse")
    return {item.message.data: item.ack_id for item in answer.received_messages}  # type: ignore[attr-defined]


def _ack(process: Process, *ack_ids: str) -> None:
    request = wire.message_class("AcknowledgeRequest")(subscription=SUBSCRIPTION, ack_ids=ack_ids)
    process.call("Subscriber/Acknowledge", request, "Empty")


def test_answered_publish_survives_a_kill(process: Process) -> None:
    """A publish that was answered is there after kill -9, under a port that has not changed."""
    _create(process)
    address = process.address
    ids = _publish(process, b"one", b"two")
    process.kill()
    process.start()
    assert process.address == address
    assert set(_pull(process)) == {b"one", b"two"}
    assert not set(ids) & set(_publish(process, b"three")), "message ids must not come twice"


def test_exactly_once_ack_survives_a_kill(process: Process) -> None:
    """With exactly-once, an ack that was answered holds after kill -9, out of order too."""
    _create(process, enable_exactly_once_delivery=True)
    _publish(process, b"one", b"two", b"three")
    ack_ids = _pull(process)
    _ack(process, ack_ids[b"two"])
    process.kill()
    process.start()
    assert set(_pull(process)) == {b"one", b"three"}


def test_ack_id_from_before_a_kill_still_counts(process: Process) -> None:
    """A reader that outlives the broker may ack what it holds: the message does not come again."""
    _create(process)
    _publish(process, b"one", b"two")
    ack_ids = _pull(process)
    process.kill()
    process.start()
    _ack(process, ack_ids[b"one"])
    assert set(_pull(process)) == {b"two"}


def test_second_broker_on_the_same_folder_is_refused(process: Process, tmp_path: Path) -> None:
    """Two brokers never share a folder; the second says what to do."""
    second = subprocess.run(
        [sys.executable, "-m", "localcloud.pubsub", "--data-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert second.returncode == 2
    assert "--data-dir" in second.stderr
