"""Apache Beam's ReadFromPubSub against our broker, in a process of its own: a streaming pipeline has to be killed to end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from google.cloud import pubsub_v1

from tests.integration.pubsub_clients.conftest import PROJECT, Broker
from tests.support.waiting import wait_until

_COUNT = 30
_PIPELINE = """
import sys
import apache_beam as beam
from apache_beam.io import PubsubMessage, ReadFromPubSub
from apache_beam.options.pipeline_options import PipelineOptions

subscription, out = sys.argv[1:]


def keep(message: PubsubMessage) -> None:
    with open(out, "ab", buffering=0) as lines:
        lines.write(message.data + b" " + message.attributes["kind"].encode() + b"\\n")


options = PipelineOptions(["--streaming", "--runner=DirectRunner", "--project=" + sys.argv[1].split("/")[1]])
with beam.Pipeline(options=options) as pipeline:
    pipeline | ReadFromPubSub(subscription=subscription, with_attributes=True) | beam.Map(keep)
"""


@pytest.mark.slow
def test_beam_reads_every_message(
    tmp_path: Path, broker: Broker, publisher: pubsub_v1.PublisherClient, subscriber: pubsub_v1.SubscriberClient
) -> None:
    """A streaming pipeline reads all messages with their attributes and acks them: none is left in the subscription."""
    topic, subscription = broker.topic("births"), broker.subscription("beam")
    publisher.create_topic(name=topic)
    subscriber.create_subscription(name=subscription, topic=topic)
    for future in [publisher.publish(topic, b"%d" % number, kind="birth") for number in range(_COUNT)]:
        future.result(10)
    program, out, log = tmp_path / "pipeline.py", tmp_path / "out", tmp_path / "log"
    program.write_text(_PIPELINE)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PUBSUB_EMULATOR_HOST": broker.address,
        "GOOGLE_CLOUD_PROJECT": PROJECT,
    }
    expected = {b"%d birth" % number for number in range(_COUNT)}
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, str(program), subscription, str(out)], env=environment, stdout=stderr, stderr=stderr
        )

    def is_all_there() -> bool:
        assert process.poll() is None, log.read_text()[-2000:]
        return out.exists() and set(out.read_bytes().splitlines()) == expected

    try:
        wait_until(is_all_there, 90, "all messages in Beam's output")
        backlog = broker.server.broker.registry.subscription(subscription).backlog
        wait_until(lambda: backlog.oldest is None, 20, "Beam's acks")
    finally:
        process.kill()
        process.wait(10)
