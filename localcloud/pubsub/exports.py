"""Subscriptions that write into BigQuery or Cloud Storage: the loop they share.

Messages are acked once the other side has answered; if it refuses, they come again after a pause that grows from 0.1 s to
60 s, and the subscription's state says what is wrong until a write succeeds.
"""

import logging
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Protocol

from localcloud.pubsub import wire
from localcloud.pubsub.broker import Broker
from localcloud.pubsub.clock import pause
from localcloud.pubsub.consumer import Consumer
from localcloud.pubsub.subscription import Delivery, Subscription

_LOG = logging.getLogger(__name__)
_MAX_BACKOFF_S = 60.0
_LEASE_S = 900  # longer than the longest max_duration and its upload


class ExportState(IntEnum):
    """What keeps an export from writing; BigQueryConfig.State has the same numbers."""

    ACTIVE = 1
    PERMISSION_DENIED = 2
    NOT_FOUND = 3
    SCHEMA_MISMATCH = 4


class Trouble(Exception):
    """The other side refused a whole write."""

    def __init__(self, state: ExportState, message: str) -> None:
        super().__init__(message)
        self.state = state


class Exported:
    """One message on its way out."""

    __slots__ = ("ack_id", "attempt", "message", "size_bytes")

    def __init__(self, delivery: Delivery) -> None:
        self.ack_id = delivery.ack_id
        self.attempt = delivery.attempt
        self.message: Any = wire.PubsubMessage.FromString(delivery.body)
        self.size_bytes = len(delivery.body)


class Sink(Protocol):
    """Where messages go."""

    max_messages: int
    """How many one write takes."""
    max_bytes: int
    """How many bytes of messages one write takes."""
    gather_s: float
    """How long a first message may wait for company."""

    async def write(self, batch: list[Exported]) -> list[Exported]:
        """Write the batch; answers those of it that were refused one by one.

        Raises:
            Trouble: nothing was written.
        """


class ExportLoop:
    """Feeds one subscription's messages to a sink until cancelled."""

    def __init__(self, broker: Broker, subscription: Subscription, sink: Sink) -> None:
        self._broker = broker
        self._subscription = subscription
        self._sink = sink
        self._consumer = Consumer(max_messages=sink.max_messages, max_bytes=sink.max_bytes)
        self._consumer.ack_deadline_s = _LEASE_S
        self._failures = 0

    async def run(self) -> None:
        """Gather, write, ack; again."""
        subscription, consumer = self._subscription, self._consumer
        subscription.join(consumer)
        batch: list[Exported] = []
        try:
            while consumer.error is None:
                batch = await self._gather()
                if batch:
                    await self._write(batch)
                    batch = []
        finally:
            self._give_back(batch)
            subscription.leave(consumer, [])

    async def _gather(self) -> list[Exported]:
        """The next batch: full, or as old as it may get."""
        batch: list[Exported] = []
        clock, size = self._broker.clock, 0
        deadline_s = 0.0
        while self._consumer.error is None:
            taken = [Exported(item) for item in self._subscription.take(self._consumer)]
            batch += taken
            size += sum(item.size_bytes for item in taken)
            deadline_s = deadline_s or (clock.monotonic() + self._sink.gather_s if batch else 0.0)
            is_full = len(batch) >= self._sink.max_messages or size >= self._sink.max_bytes
            if batch and (is_full or clock.monotonic() >= deadline_s):
                return batch
            if not taken:
                timer = clock.call_later(deadline_s - clock.monotonic(), self._consumer.ring) if batch else None
                await self._consumer.wait()
                if timer is not None:
                    timer.cancel()
        return batch

    async def _write(self, batch: list[Exported]) -> None:
        try:
            refused = await self._sink.write(batch)
        except Trouble as trouble:
            self._tell(trouble)
            self._give_back(batch)
            self._failures += 1
            await pause(self._broker.clock, min(_MAX_BACKOFF_S, 0.1 * 2.0 ** min(self._failures - 1, 16)))
            return
        self._failures = 0
        self._subscription.export_state = ExportState.ACTIVE
        lost = {item.ack_id for item in refused}
        self._subscription.ack([item.ack_id for item in batch if item.ack_id not in lost])
        if refused:
            self._tell(Trouble(ExportState.SCHEMA_MISMATCH, f"{len(refused)} messages do not fit"))
            self._give_back(refused)
            await pause(self._broker.clock, 1.0)

    def _give_back(self, batch: list[Exported]) -> None:
        if batch and self._consumer.error is None:
            self._subscription.modify([item.ack_id for item in batch], [0] * len(batch))

    def _tell(self, trouble: Trouble) -> None:
        if self._subscription.export_state != trouble.state:
            _LOG.warning(
                "export failed, the messages will come again",
                extra={"action": "export_failed", "subscription": self._subscription.name, "error": str(trouble)},
            )
        self._subscription.export_state = trouble.state


def service_url(environment: Mapping[str, str], variable: str) -> str:
    """The address of a local service.

    Raises:
        Trouble: the variable is not set.
    """
    url = environment.get(variable, "")
    if not url:
        raise Trouble(
            ExportState.NOT_FOUND, f"{variable} is not set; start that service and tell the broker where it is."
        )
    return (url if "://" in url else f"http://{url}").rstrip("/")


def state_of(status: int) -> ExportState:
    """What an HTTP status means for the export."""
    return ExportState.PERMISSION_DENIED if status in (401, 403) else ExportState.NOT_FOUND
