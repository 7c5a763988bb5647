"""StreamingPull: one task writes deliveries as they come, another reads acks, new deadlines and the end of the stream."""

import asyncio
from typing import Any

from google.protobuf.message import DecodeError

from localcloud.pubsub import large, names, validation, wire
from localcloud.pubsub.ack_ids import seq_of
from localcloud.pubsub.broker import Broker
from localcloud.pubsub.consumer import Consumer
from localcloud.pubsub.errors import FailedPrecondition, InvalidArgument, PubSubError, Unavailable
from localcloud.pubsub.subscription import Delivery, Subscription
from localcloud.pubsub.transport import Call


class _EndOfStream(PubSubError):
    """The client has closed its half."""


class StreamingPull:
    """One open stream."""

    def __init__(self, broker: Broker, call: Call) -> None:
        self._broker = broker
        self._call = call
        self._unsent: list[Delivery] = []
        self._confirmations: list[bytes] = []

    async def run(self) -> None:
        """Serve the stream until either side ends it.

        Raises:
            PubSubError: what the stream ends with.
        """
        opening = await self._call.read()
        if opening is None:
            return
        first = wire.StreamingPullRequest.FromString(opening)
        self._subscription = self._open(first)
        self._consumer = Consumer(first.max_outstanding_messages, first.max_outstanding_bytes)
        self._consumer.ack_deadline_s = first.stream_ack_deadline_seconds
        self._subscription.join(self._consumer)
        reader = asyncio.create_task(self._read(first))
        try:
            await self._write()
        except _EndOfStream:
            return
        finally:
            reader.cancel()
            self._subscription.leave(self._consumer, self._unsent)

    def _open(self, first: Any) -> Subscription:
        if not first.subscription:
            raise InvalidArgument("the first request of a stream names no subscription; set it there.")
        subscription = self._broker.registry.subscription(
            names.check(first.subscription, "subscriptions", "subscription")
        )
        _check_stream_deadline(first.stream_ack_deadline_seconds, subscription.name, is_required=True)
        if subscription.config.detached:
            raise FailedPrecondition(f"{subscription.name} is detached from its topic; create another subscription.")
        if subscription.settings.is_push or subscription.settings.is_export:
            raise FailedPrecondition(
                f"{subscription.name} delivers by itself; clear that configuration to pull from it."
            )
        return subscription

    async def _write(self) -> None:
        subscription, consumer = self._subscription, self._consumer
        while True:
            if consumer.error is not None and not self._confirmations:
                raise consumer.error
            self._unsent = subscription.take(consumer) if consumer.error is None else []
            if not self._unsent and not self._confirmations:
                await consumer.wait()
                continue
            if subscription.book is not None:
                await self._broker.store.settle()  # a lease is on disk before its message is sent
            confirmations, self._confirmations = self._confirmations, []
            settings = subscription.settings
            response = b"".join(
                (
                    wire.received_messages(self._unsent),
                    *confirmations,
                    wire.subscription_properties(
                        is_exactly_once=settings.is_exactly_once, is_ordered=settings.is_ordered
                    ),
                )
            )
            if self._unsent:
                large.note(subscription.name, seq_of(self._unsent[0].ack_id), response)
            # From here on the client may have them: if the stream breaks now, their leases run to the deadline.
            self._unsent = []
            await self._call.write(response)
            if self._broker.unkind is not None and self._broker.unkind.breaks_stream():
                raise Unavailable("the stream broke (unkind mode): open another.")

    async def _read(self, first: Any) -> None:
        try:
            await self._apply(first)
            while True:
                message = await self._call.read()
                if message is None:
                    self._consumer.close(_EndOfStream("the client has closed the stream"))
                    return
                request = wire.StreamingPullRequest.FromString(message)
                if request.max_outstanding_messages or request.max_outstanding_bytes:
                    raise InvalidArgument(
                        "a later request of the stream sets its flow control; set it in the first alone."
                    )
                if request.subscription:
                    raise InvalidArgument(
                        f"a later request of the stream names {request.subscription!r}; leave it empty."
                    )
                _check_stream_deadline(request.stream_ack_deadline_seconds, self._subscription.name, is_required=False)
                if request.stream_ack_deadline_seconds:
                    self._consumer.ack_deadline_s = request.stream_ack_deadline_seconds
                await self._apply(request)
        except PubSubError as error:
            self._consumer.close(error)
        except DecodeError:
            self._consumer.close(
                InvalidArgument("a request of the stream is malformed: it is no StreamingPullRequest.")
            )

    async def _apply(self, request: Any) -> None:
        subscription = self._subscription
        ids, deadlines_s = request.modify_deadline_ack_ids, request.modify_deadline_seconds
        if len(ids) != len(deadlines_s):
            raise InvalidArgument(
                f"{len(ids)} modify_deadline_ack_ids but {len(deadlines_s)} modify_deadline_seconds on {subscription.name}; "
                "send one deadline for each ack id."
            )
        for seconds in deadlines_s:
            validation.ack_deadline(seconds, subscription.name)
        if ids:
            failures = subscription.modify(ids, deadlines_s)
            if subscription.book is not None:
                await self._broker.store.settle()
            self._confirm("modify_ack_deadline_confirmation", list(ids), failures)
        if request.ack_ids:
            failures = subscription.ack(request.ack_ids)
            if subscription.settings.is_exactly_once:
                await self._broker.store.settle()
            self._confirm("acknowledge_confirmation", list(request.ack_ids), failures)

    def _confirm(self, field: str, ack_ids: list[str], failures: dict[str, str]) -> None:
        """Exactly-once: say on the stream what became of each id."""
        if not self._subscription.settings.is_exactly_once:
            return
        response = wire.StreamingPullResponse()
        confirmation = getattr(response, field)
        confirmation.SetInParent()
        confirmation.ack_ids.extend(ack_id for ack_id in ack_ids if ack_id not in failures)
        for ack_id, reason in failures.items():
            is_temporary = reason.startswith("TRANSIENT") and field != "acknowledge_confirmation"
            target = confirmation.temporary_failed_ack_ids if is_temporary else confirmation.invalid_ack_ids
            if reason == "TRANSIENT_FAILURE_UNORDERED_ACK_ID":
                target = confirmation.unordered_ack_ids
            target.append(ack_id)
        self._confirmations.append(response.SerializeToString())
        self._consumer.ring()


def _check_stream_deadline(seconds: int, name: str, *, is_required: bool) -> None:
    if (seconds or is_required) and not 10 <= seconds <= 600:
        raise InvalidArgument(
            f"stream_ack_deadline_seconds={seconds} on {name} is out of bounds; set it from 10 to 600 s."
        )
