"""Simulated Pub/Sub: at least once, in any order, with ack deadlines, redelivery, a retry policy and dead letters.

An ack after its deadline is answered like any other and forgotten: the unkind choice that the real service may take.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from messages.topics import DEAD_LETTER, SUBSCRIPTIONS
from tests.simulation.faults import WRITE, Faults, Kind
from tests.simulation.network import Network, NoAnswer, Refused
from tests.simulation.scheduler import Process, Scheduler
from workers.errors import TransientError

ACK_DEADLINE_S = 20.0
MAX_ATTEMPTS = 8
_RETRY_FIRST_S, _RETRY_MAX_S = 1.0, 60.0
_NO_CONSUMER_S = 5.0
_LATENCIES_S = (0.005, 0.01, 0.02, 0.05, 0.2, 1.0)
Consumer = tuple[Process, Callable[[Any], None]]


@dataclass(slots=True)
class Published:
    """One message of a topic, as the service took it."""

    id: str
    topic: str
    data: bytes
    attributes: dict[str, str]
    time: float


@dataclass(slots=True)
class Delivery:
    """One message on one subscription: in flight until it is acknowledged or given up on."""

    message: Published
    subscription: str
    attempt: int = 0
    is_acked: bool = False
    is_dead: bool = False
    lease: int = 0
    lease_until: float = 0.0

    @property
    def is_settled(self) -> bool:
        return self.is_acked or self.is_dead


@dataclass(slots=True)
class Received:
    """What a worker's callback gets; the shape of `google.cloud.pubsub_v1.subscriber.message.Message`."""

    data: bytes
    attributes: Mapping[str, str]
    message_id: str
    delivery_attempt: int
    ack: Callable[[], None]
    nack: Callable[[], None]


@dataclass(slots=True)
class Broker:
    """The service. `consumers` are told by the worker slots of each subscription."""

    scheduler: Scheduler
    faults: Faults
    random: random.Random
    published: list[Published] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    consumers: dict[str, dict[str, Consumer]] = field(default_factory=dict)

    def publish(self, topic: str, data: bytes, attributes: Mapping[str, str]) -> str:
        message = Published(f"m{len(self.published) + 1}", topic, data, dict(attributes), self.scheduler.now)
        self.published.append(message)
        for subscription, attached in SUBSCRIPTIONS.items():
            if attached == topic and subscription in self.consumers:
                delivery = Delivery(message, subscription)
                self.deliveries.append(delivery)
                self._deliver_in(delivery, self._latency(delivery))
        return message.id

    def _latency(self, delivery: Delivery) -> float:
        where = f"deliver {delivery.message.id} {delivery.subscription}"
        hit = self.faults.at("pubsub", where, (Kind.DOUBLED, Kind.DELAYED), self.scheduler.now, self.faults.rate * 5)
        if hit is not None and hit.kind is Kind.DELAYED:
            return hit.seconds
        if hit is not None:
            self._deliver_in(delivery, self.random.choice(_LATENCIES_S))
        return self.random.choice(_LATENCIES_S)

    def _deliver_in(self, delivery: Delivery, seconds: float) -> None:
        self.scheduler.at(self.scheduler.now + seconds, lambda: self._deliver(delivery))

    def _deliver(self, delivery: Delivery) -> None:
        if delivery.is_settled:
            return
        alive = [c for c in self.consumers[delivery.subscription].values() if c[0].is_alive]
        if not alive:
            self._deliver_in(delivery, _NO_CONSUMER_S)
            return
        process, callback = self.random.choice(alive)
        delivery.attempt += 1
        delivery.lease += 1
        delivery.lease_until = self.scheduler.now + ACK_DEADLINE_S
        lease = delivery.lease
        message = delivery.message
        received = Received(
            message.data, message.attributes, message.id, delivery.attempt,
            ack=lambda: self._answer(process, lambda: self._ack(delivery, lease)),
            nack=lambda: self._answer(process, lambda: self._give_back(delivery, lease)),
        )  # fmt: skip
        self.scheduler.at(delivery.lease_until, lambda: self._give_back(delivery, lease))
        self.scheduler.spawn(process, callback, received)

    def _answer(self, process: Process, then: Callable[[], None]) -> None:
        """Acks and nacks are sent by a thread of the client a moment later, if the process lives so long."""
        moment = self.scheduler.now + self.random.choice(_LATENCIES_S)
        self.scheduler.at(moment, lambda: then() if process.is_alive else None)

    def _ack(self, delivery: Delivery, lease: int) -> None:
        if delivery.is_settled or lease != delivery.lease or self.scheduler.now > delivery.lease_until:
            return
        where = f"ack {delivery.message.id} {delivery.subscription}"
        if self.faults.at("pubsub", where, (Kind.ACK_LOST,), self.scheduler.now, self.faults.rate * 5):
            return
        delivery.is_acked = True

    def _give_back(self, delivery: Delivery, lease: int) -> None:
        if delivery.is_settled or lease != delivery.lease:
            return
        delivery.lease += 1
        if delivery.attempt >= MAX_ATTEMPTS:
            self._give_up(delivery)
            return
        backoff_s = min(_RETRY_FIRST_S * 2 ** (delivery.attempt - 1), _RETRY_MAX_S)
        self._deliver_in(delivery, backoff_s)

    def _give_up(self, delivery: Delivery) -> None:
        delivery.is_dead = True
        source = {
            "CloudPubSubDeadLetterSourceDeliveryCount": str(delivery.attempt),
            "CloudPubSubDeadLetterSourceSubscription": delivery.subscription,
        }
        self.publish(DEAD_LETTER, delivery.message.data, {**delivery.message.attributes, **source})


class WorkerPublisher:
    """`workers.publisher.Publisher` of one worker process."""

    def __init__(self, broker: Broker, network: Network) -> None:
        self._broker = broker
        self._network = network

    def publish(self, topic: str, data: bytes, attributes: Mapping[str, str]) -> None:
        try:
            self._network.call(f"publish {topic}", lambda: self._broker.publish(topic, data, attributes), WRITE)
        except (Refused, NoAnswer) as fault:
            raise TransientError(f"cannot publish to {topic}: {fault!r}", ambiguous=True) from fault
