"""Publishes events to another process's broker, for a storage server that runs alone.

It goes to PUBSUB_EMULATOR_HOST and nowhere else: without that variable events wait in the outbox, so a laptop never
talks to the real Pub/Sub by accident.
"""

import os
from typing import Any


class EmulatorPublisher:
    """Call it as the outbox does; it connects at the first event."""

    def __init__(self) -> None:
        self._channel: Any = None
        self._client: Any = None

    async def __call__(self, topic: str, data: bytes, attributes: dict[str, str]) -> str:
        """Publish one message; return its id.

        Raises:
            RuntimeError: there is no broker to talk to.
            google.api_core.exceptions.GoogleAPICallError: the broker refused.
        """
        if self._client is None:
            self._connect()
        message = {"data": data, "attributes": attributes}
        response = await self._client.publish(request={"topic": topic, "messages": [message]}, retry=None, timeout=10)
        return str(response.message_ids[0])

    async def close(self) -> None:
        """Close the connection, if there is one."""
        if self._channel is not None:
            await self._channel.close()
            self._channel = self._client = None

    def _connect(self) -> None:
        host = os.environ.get("PUBSUB_EMULATOR_HOST", "")
        if not host:
            raise RuntimeError(
                "PUBSUB_EMULATOR_HOST is not set, so Storage notifications wait in the outbox; "
                "set it to the broker's HOST:PORT and start the storage server again."
            )
        # Late and here: these imports take a second and 40 MiB, and most starts never publish.
        import grpc.aio
        from google.pubsub_v1.services.publisher import PublisherAsyncClient
        from google.pubsub_v1.services.publisher.transports import PublisherGrpcAsyncIOTransport

        self._channel = grpc.aio.insecure_channel(host)
        self._client = PublisherAsyncClient(transport=PublisherGrpcAsyncIOTransport(channel=self._channel))
