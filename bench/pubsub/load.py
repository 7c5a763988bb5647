"""The load generator, in a process of its own so that it shares neither event loop nor interpreter lock with a broker.

`python -m bench.pubsub.load ADDRESS publish|drain|fill|latency …` prints one JSON object. Everything is bounded in time or
count. Publishers and readers keep a fixed number of requests in flight (closed loop), except for latency, which is paced.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from bench.pubsub import raw

PAYLOAD_BYTES = 1024
# Publish requests in flight, by messages a request: enough that a broker which waits for its disk has work meanwhile.
_IN_FLIGHT = {1: 256, 100: 8}
_STALL_S = 10.0
_SETTLE_S = 0.5
_WARM_UP = 10  # first messages of a latency run, not counted: channels and code paths are cold


def _publish_request(topic: str, count: int) -> bytes:
    messages = [raw.PubsubMessage(data=bytes(PAYLOAD_BYTES))] * count
    return bytes(raw.PublishRequest(topic=raw.topic_path(topic), messages=messages).SerializeToString())


async def publish(address: str, name: str, per_request: int, seconds: float) -> dict[str, float]:
    """Publish for so long; messages a second, as answered."""
    request = _publish_request(name, per_request)
    async with grpc.aio.insecure_channel(address, raw.OPTIONS) as channel:
        call = raw.unary(channel, "Publish")
        answered = 0
        await _repeat(lambda: call(request), _IN_FLIGHT[per_request], time.perf_counter() + _SETTLE_S)
        began_s = time.perf_counter()

        async def one() -> None:
            nonlocal answered
            response = await call(request)
            answered += len(response.message_ids)

        await _repeat(one, _IN_FLIGHT[per_request], began_s + seconds)
        return {"per_s": answered / (time.perf_counter() - began_s)}


async def _repeat(action: Callable[[], Awaitable[Any]], in_flight: int, until_s: float) -> None:
    async def loop() -> None:
        while time.perf_counter() < until_s:
            await action()

    await asyncio.gather(*(loop() for _ in range(in_flight)))


async def fill(address: str, name: str, count: int) -> dict[str, float]:
    """Publish exactly so many messages, 100 a request."""
    request = _publish_request(name, 100)
    left = iter(range(count // 100))
    async with grpc.aio.insecure_channel(address, raw.OPTIONS) as channel:
        call = raw.unary(channel, "Publish")

        async def loop() -> None:
            for _ in left:
                await call(request)

        await asyncio.gather(*(loop() for _ in range(8)))
    return {"count": count}


class _Drain:
    """What all streams of one drain share: it is over when the backlog or the time has run out."""

    def __init__(self, count: int, seconds: float) -> None:
        self._left = count
        self._seconds = seconds
        self._began_s = self._ended_s = 0.0
        self.acked = 0
        self.over = asyncio.Event()

    def received(self, count: int) -> None:
        """Count messages as they arrive; the clock starts with the first."""
        now_s = time.perf_counter()
        self._began_s = self._began_s or now_s
        self._left -= count
        if self._left <= 0 or now_s > self._began_s + self._seconds:
            self.over.set()

    def acknowledged(self, count: int) -> None:
        """Count answered acks; the clock stops with the last."""
        self.acked += count
        self._ended_s = time.perf_counter()

    @property
    def per_s(self) -> float:
        """Messages a second, from the first received to the last acked."""
        return self.acked / (self._ended_s - self._began_s)


async def drain(address: str, name: str, streams: int, count: int, seconds: float) -> dict[str, float]:
    """Read a waiting backlog and ack it by unary requests, as the stock clients do; messages a second, as acked."""
    shared = _Drain(count, seconds)
    async with asyncio.timeout(seconds + _STALL_S):
        await asyncio.gather(*(_drain_one(address, raw.subscription_path(name), shared) for _ in range(streams)))
    return {"per_s": shared.per_s, "acked": shared.acked}


async def _drain_one(address: str, subscription: str, shared: _Drain) -> None:
    async with grpc.aio.insecure_channel(address, raw.OPTIONS) as channel, asyncio.TaskGroup() as tasks:
        acknowledge = raw.unary(channel, "Acknowledge")

        async def ack(ack_ids: list[str]) -> None:
            await acknowledge(raw.AcknowledgeRequest(subscription=subscription, ack_ids=ack_ids))
            shared.acknowledged(len(ack_ids))

        stream = await _open(channel, subscription)
        tasks.create_task(_close_when(shared.over, stream))
        while (response := await stream.read()) is not grpc.aio.EOF:
            if shared.over.is_set():
                continue
            ack_ids = [received.ack_id for received in response.received_messages]
            shared.received(len(ack_ids))
            for start in range(0, len(ack_ids), raw.MAX_ACK_IDS):
                tasks.create_task(ack(ack_ids[start : start + raw.MAX_ACK_IDS]))


async def _close_when(over: asyncio.Event, stream: Any) -> None:
    """Half-close; a cancelled stream would go on taking messages in Google's emulator."""
    await over.wait()
    await stream.done_writing()


async def _open(channel: Any, subscription: str) -> Any:
    stream = raw.streaming_pull(channel)()
    await stream.write(
        raw.StreamingPullRequest(
            subscription=subscription, stream_ack_deadline_seconds=raw.STREAM_ACK_DEADLINE_S, client_id="bench"
        )
    )
    return stream


class _Pace:
    """When each message was sent, and how long it took to arrive."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.sent_s: dict[int, float] = {}
        self.delays_s: dict[int, float] = {}
        self.over = asyncio.Event()

    def sent(self, number: int) -> None:
        """The publish call begins now."""
        self.sent_s[number] = time.perf_counter()

    def received(self, number: int) -> None:
        """The message is here; a second delivery does not count."""
        self.delays_s.setdefault(number, time.perf_counter() - self.sent_s[number])
        if len(self.delays_s) == self._count:
            self.over.set()


async def latency(address: str, name: str, per_s: float, seconds: float) -> dict[str, Any]:
    """Publish at a fixed pace, one message a request; seconds from the call to the message's arrival on a stream."""
    subscription, topic = raw.subscription_path(name), raw.topic_path(name)
    count = _WARM_UP + max(10, int(per_s * seconds))
    pace = _Pace(count)
    async with (
        asyncio.timeout(count / per_s + _STALL_S),
        grpc.aio.insecure_channel(address, raw.OPTIONS) as out,
        grpc.aio.insecure_channel(address, raw.OPTIONS) as back,
        asyncio.TaskGroup() as tasks,
    ):
        acknowledge = raw.unary(back, "Acknowledge")
        stream = await _open(back, subscription)
        tasks.create_task(_close_when(pace.over, stream))
        tasks.create_task(_publish_paced(raw.unary(out, "Publish"), topic, per_s, count, pace))
        while (response := await stream.read()) is not grpc.aio.EOF:
            for received in response.received_messages:
                pace.received(int.from_bytes(received.message.data[:8], "big"))
            ack_ids = [received.ack_id for received in response.received_messages]
            if ack_ids:
                request = raw.AcknowledgeRequest(subscription=subscription, ack_ids=ack_ids)
                tasks.create_task(_awaited(acknowledge(request)))
    return {"delays_s": [delay_s for number, delay_s in pace.delays_s.items() if number >= _WARM_UP]}


async def _publish_paced(call: Callable[..., Any], topic: str, per_s: float, count: int, pace: _Pace) -> None:
    began_s = time.perf_counter() + _SETTLE_S
    async with asyncio.TaskGroup() as tasks:
        for number in range(count):
            await asyncio.sleep(max(0.0, began_s + number / per_s - time.perf_counter()))
            data = number.to_bytes(8, "big") + bytes(PAYLOAD_BYTES - 8)
            request = raw.PublishRequest(topic=topic, messages=[raw.PubsubMessage(data=data)]).SerializeToString()
            pace.sent(number)
            tasks.create_task(_awaited(call(request)))


async def _awaited(call: Awaitable[Any]) -> None:
    await call


def main() -> None:
    """Run one scenario and print its figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.pubsub.load", description=__doc__)
    parser.add_argument("address")
    parser.add_argument("scenario", choices=("publish", "fill", "drain", "latency"))
    parser.add_argument("name", help="topic and subscription")
    parser.add_argument("--per-request", type=int, default=1, choices=sorted(_IN_FLIGHT))
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--per-s", type=float, default=10)
    parser.add_argument("--seconds", type=float, default=5)
    chosen = parser.parse_args()
    scenarios: dict[str, Callable[[], Awaitable[dict[str, Any]]]] = {
        "publish": lambda: publish(chosen.address, chosen.name, chosen.per_request, chosen.seconds),
        "fill": lambda: fill(chosen.address, chosen.name, chosen.count),
        "drain": lambda: drain(chosen.address, chosen.name, chosen.streams, chosen.count, chosen.seconds),
        "latency": lambda: latency(chosen.address, chosen.name, chosen.per_s, chosen.seconds),
    }

    async def run() -> dict[str, Any]:
        return await scenarios[chosen.scenario]()

    print(json.dumps(asyncio.run(run())))


if __name__ == "__main__":
    main()
