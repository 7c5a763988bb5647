"""A soak: many messages through three competing subscribers of an exactly-once subscription, the broker killed on the way.

`python -m bench.pubsub.million --messages 1000000 --kills 20` ends with 0 only if no answered publish was lost and no
message came again after its ack was answered. The same body runs at CI's size in the tests.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from bench.pubsub import brokers, raw
from bench.pubsub.ledger import Fate, Ledger

NAME = "soak"
_BATCH = 100
_PUBLISHERS = 4
_CALL_LIMIT_S = 30.0
_POLL_S = 0.005
_ACK_DEADLINE_S = 10  # exactly-once leases outlive a kill: what was out then comes again after so long
# A killed broker is back within a fraction of a second; gRPC's own patience would begin at one second.
_OPTIONS = (
    *raw.OPTIONS,
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
)
_LOST_ANSWER = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
)


@dataclass(frozen=True, slots=True)
class Plan:
    """One soak run. `stall_s`: without any progress for so long, it has failed."""

    messages: int = 1_000_000
    kills: int = 20
    subscribers: int = 3
    seed: int = 0
    stall_s: float = 60.0


@dataclass(slots=True)
class Report:
    """What came of it; `is_clean` is the verdict."""

    plan: Plan
    seconds: float = 0.0
    kills: int = 0
    published: int = 0
    published_again: int = 0
    """Messages of batches whose answer was lost, so that they were sent once more and exist under two ids, or one."""
    deliveries: int = 0
    redeliveries: int = 0
    unknown_acks: int = 0
    refused_acks: int = 0
    peak_broker_mib: float = 0.0
    lost: list[str] = field(default_factory=list)
    unseen: int = 0
    violations: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Nothing lost, nothing delivered again after its ack."""
        return not (self.lost or self.unseen or self.violations)


class Soak:
    """One run."""

    def __init__(self, plan: Plan, broker: brokers.BrokerProcess) -> None:
        self._plan = plan
        self._broker = broker
        self._random = random.Random(plan.seed)
        self._ledger = Ledger(plan.messages)
        self._report = Report(plan)
        self._open_streams = 0
        self._over = asyncio.Event()
        self._is_up = asyncio.Event()
        self._is_up.set()
        self._batches = iter(range(0, plan.messages, _BATCH))

    async def run(self) -> Report:
        """Publish, subscribe and kill until all is accounted for, or nothing moves any more."""
        raw.create(self._broker.address, NAME, enable_exactly_once_delivery=True)
        began_s = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            subscribers = [tasks.create_task(self._subscribe()) for _ in range(self._plan.subscribers)]
            publishers = [tasks.create_task(self._publish()) for _ in range(_PUBLISHERS)]
            killer = tasks.create_task(self._kill())
            await self._until_done((*publishers, killer))
            self._report.seconds = time.perf_counter() - began_s
            self._over.set()
            for task in (*publishers, killer, *subscribers):
                task.cancel()
        return self._reported()

    async def _until_done(self, workers: tuple[asyncio.Task[None], ...]) -> None:
        ledger, progress, moved_s = self._ledger, -1, time.perf_counter()
        while not all(worker.done() for worker in workers) or ledger.accounted < len(ledger.answered):
            await asyncio.sleep(_POLL_S)
            if ledger.accounted + ledger.deliveries != progress:
                progress, moved_s = ledger.accounted + ledger.deliveries, time.perf_counter()
            elif time.perf_counter() - moved_s > self._plan.stall_s:
                return
            if self._is_up.is_set():
                self._report.peak_broker_mib = max(self._report.peak_broker_mib, self._broker.memory_bytes() / 2**20)

    def _reported(self) -> Report:
        ledger, report = self._ledger, self._report
        report.published = len(ledger.answered)
        report.deliveries = ledger.deliveries
        report.redeliveries = ledger.deliveries - len(ledger.fates)
        report.unknown_acks = sum(fate == Fate.UNKNOWN for fate in ledger.fates.values())
        report.refused_acks = ledger.refused_acks
        report.lost = ledger.missing
        report.unseen = ledger.unseen
        report.violations = ledger.violations
        return report

    # ---- publishing ----

    async def _publish(self) -> None:
        async with grpc.aio.insecure_channel(self._broker.address, _OPTIONS) as channel:
            call = raw.unary(channel, "Publish")
            for first in self._batches:
                numbers = range(first, min(first + _BATCH, self._plan.messages))
                messages = [raw.PubsubMessage(data=Ledger.payload(number)) for number in numbers]
                request = raw.PublishRequest(topic=raw.topic_path(NAME), messages=messages)
                while True:
                    try:
                        answer = await call(request, timeout=_CALL_LIMIT_S, wait_for_ready=True)
                        break
                    except grpc.aio.AioRpcError as error:
                        _expect_lost(error)
                        self._report.published_again += len(messages)
                self._ledger.published(answer.message_ids)

    # ---- subscribing ----

    async def _subscribe(self) -> None:
        async with grpc.aio.insecure_channel(self._broker.address, _OPTIONS) as channel, asyncio.TaskGroup() as acks:
            while not self._over.is_set():
                await self._is_up.wait()
                self._open_streams += 1
                try:
                    await self._read_stream(channel, acks)
                except grpc.aio.AioRpcError as error:
                    _expect_lost(error)
                finally:
                    self._open_streams -= 1
                await asyncio.sleep(_POLL_S)

    async def _read_stream(self, channel: Any, acks: asyncio.TaskGroup) -> None:
        # No waiting for readiness: a stream that waited would stay open while the broker is down, and `_kill` counts it.
        stream = raw.streaming_pull(channel)()
        request = raw.StreamingPullRequest(
            subscription=raw.subscription_path(NAME), stream_ack_deadline_seconds=_ACK_DEADLINE_S
        )
        await stream.write(request)
        acknowledge = raw.unary(channel, "Acknowledge")
        while (response := await stream.read()) is not grpc.aio.EOF:
            id_by_ack_id: dict[str, str] = {}
            for received in response.received_messages:
                message = received.message
                self._ledger.delivered(message.message_id, message.data)
                id_by_ack_id[received.ack_id] = message.message_id
            if id_by_ack_id:
                acks.create_task(self._ack(acknowledge, id_by_ack_id))

    async def _ack(self, acknowledge: Any, id_by_ack_id: dict[str, str]) -> None:
        request = raw.AcknowledgeRequest(subscription=raw.subscription_path(NAME), ack_ids=list(id_by_ack_id))
        try:
            await acknowledge(request, timeout=_CALL_LIMIT_S)
        except grpc.aio.AioRpcError as error:
            refused = _refused_ids(error)
            if refused:
                self._ledger.refused_acks += len(refused)
                kept = [message_id for ack_id, message_id in id_by_ack_id.items() if ack_id not in refused]
                self._ledger.acked(kept, Fate.ACKED)
                return
            _expect_lost(error)
            self._ledger.acked(id_by_ack_id.values(), Fate.UNKNOWN)
        else:
            self._ledger.acked(id_by_ack_id.values(), Fate.ACKED)

    # ---- killing ----

    async def _kill(self) -> None:
        share = sorted(self._random.uniform(0.02, 0.97) for _ in range(self._plan.kills))
        for after in (int(part * self._plan.messages) for part in share):
            while self._ledger.accounted < after:
                await asyncio.sleep(_POLL_S)
            await asyncio.sleep(self._random.uniform(0.0, 0.05))
            self._is_up.clear()
            self._broker.kill()
            self._report.kills += 1
            # What the dead broker had sent is read to its end first: else a message could seem to come after an ack
            # that in truth came after the message.
            while self._open_streams:
                await asyncio.sleep(_POLL_S)
            await asyncio.to_thread(self._broker.start)
            self._is_up.set()


def _expect_lost(error: grpc.aio.AioRpcError) -> None:
    """A killed broker takes its answers with it; anything else is an error of the run."""
    if error.code() not in _LOST_ANSWER:
        raise error


def _refused_ids(error: grpc.aio.AioRpcError) -> dict[str, str]:
    """Reasons by ack id, from the details of an exactly-once answer; empty if it has none."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    return dict(info.metadata)
    return {}


async def soak(plan: Plan, data_dir: Path, *options: str) -> Report:
    """Run a plan on our broker over a fresh folder; `options` go to the broker's command line."""
    with brokers.ours(data_dir, None, *options) as broker:
        return await Soak(plan, broker).run()


def main() -> int:
    """Run and print the report; 1 if anything was lost or came again after its ack."""
    parser = argparse.ArgumentParser(prog="python -m bench.pubsub.million", description=__doc__)
    parser.add_argument("--messages", type=int, default=Plan().messages)
    parser.add_argument("--kills", type=int, default=Plan().kills)
    parser.add_argument("--subscribers", type=int, default=Plan().subscribers)
    parser.add_argument("--seed", type=int, default=None, help="of the moments of the kills (default: a new one)")
    parser.add_argument("--scratch", type=Path, help="folder on the disk to use (default: the temporary one)")
    chosen = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if chosen.seed is None else chosen.seed
    plan = Plan(messages=chosen.messages, kills=chosen.kills, subscribers=chosen.subscribers, seed=seed)
    print(f"seed {seed}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=chosen.scratch) as data_dir:
        report = asyncio.run(soak(plan, Path(data_dir)))
    shown = asdict(report) | {"lost": len(report.lost), "violations": len(report.violations)}
    print(json.dumps(shown | {"per_s": round(plan.messages / report.seconds), "is_clean": report.is_clean}, indent=1))
    for line in (*report.violations[:10], *(f"lost: message {message_id}" for message_id in report.lost[:10])):
        print(line, file=sys.stderr)
    return 0 if report.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
