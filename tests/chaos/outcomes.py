"""Listens for the outcomes of runs, as anybody may: a subscription of its own to `deploy-done` and `stage-failed`."""

from collections import defaultdict
from contextlib import suppress
from typing import Any, Self

import grpc
from google.api_core import exceptions as google_errors
from google.pubsub_v1.services.subscriber import SubscriberClient
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from messages import Envelope, decode
from messages.topics import DEPLOY_DONE, STAGE_FAILED, subscription_path, topic_path
from tests.chaos.hands import Hands
from tests.support.house import PROJECT

_AWAY = (google_errors.GoogleAPICallError, google_errors.RetryError)
_PATIENCE_S = 5.0
_TOPICS = (DEPLOY_DONE, STAGE_FAILED)


class Outcomes(Hands):
    """The outcomes told so far, by run and by event id; the broker may come and go."""

    def __init__(self, address: str) -> None:
        super().__init__(len(_TOPICS))
        self._address = address
        self.told: dict[str, dict[str, Envelope]] = defaultdict(dict)

    def __enter__(self) -> Self:
        with grpc.insecure_channel(self._address) as channel:
            for topic in _TOPICS:
                self._client(channel).create_subscription(
                    name=_path(topic), topic=topic_path(PROJECT, topic), ack_deadline_seconds=10
                )
        return super().__enter__()

    def work(self, number: int) -> None:
        """Listen to one topic."""
        with grpc.insecure_channel(self._address, options=[("grpc.max_reconnect_backoff_ms", 500)]) as channel:
            client = self._client(channel)
            while not self.stopping.is_set():
                try:
                    self._take(client, _TOPICS[number])
                except _AWAY:
                    self.stopping.wait(0.1)

    def _take(self, client: Any, topic: str) -> None:
        request = {"subscription": _path(topic), "max_messages": 100}
        received = client.pull(request=request, timeout=_PATIENCE_S, retry=None).received_messages
        for one in received:
            found = decode(one.message.data, dict(one.message.attributes))
            self.told[found.run_id][found.id] = found
        if received:
            ids = [one.ack_id for one in received]
            with suppress(*_AWAY):  # then they come again, and are the same
                client.acknowledge(
                    request={"subscription": _path(topic), "ack_ids": ids}, timeout=_PATIENCE_S, retry=None
                )

    def _client(self, channel: grpc.Channel) -> Any:
        return SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))


def _path(topic: str) -> str:
    return subscription_path(PROJECT, f"outcomes-of-{topic}")
