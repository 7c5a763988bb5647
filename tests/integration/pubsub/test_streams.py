"""Streams that come and go: nothing of them stays."""

import asyncio
import threading

import grpc

from localcloud.pubsub import wire
from tests.integration.pubsub.conftest import SUBSCRIPTION, Running
from tests.support.waiting import wait_until

_METHOD = "/google.pubsub.v1.Subscriber/StreamingPull"


def _open(running: Running, channel: grpc.Channel) -> grpc.Call:
    """A stream whose client never says that it is done."""
    first = wire.StreamingPullRequest(subscription=SUBSCRIPTION, stream_ack_deadline_seconds=10)
    end = threading.Event()

    def requests() -> object:
        yield first.SerializeToString()
        end.wait(30)

    stream = channel.stream_stream(_METHOD)(requests())
    stream.add_callback(end.set)
    return stream


async def _tasks() -> int:
    return len(asyncio.all_tasks())


def test_cancelled_streams_leave_nothing_behind(running: Running) -> None:
    """After 100 streams were opened and cancelled, no reader, task or connection of theirs is left."""
    running.create()
    subscription = running.server.broker.registry.subscription(SUBSCRIPTION)
    before = running.run(_tasks())
    for _ in range(10):
        with grpc.insecure_channel(f"127.0.0.1:{running.port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
            streams = [_open(running, channel) for _ in range(10)]
            wait_until(lambda: len(subscription.consumers) == 10, what="ten readers")
            for stream in streams:
                stream.cancel()
    wait_until(lambda: not subscription.consumers, what="no readers")
    wait_until(lambda: running.run(_tasks()) <= before, what="no tasks")
    running.publish(b"x")
    assert [item.message.data for item in running.pull()] == [b"x"]


def test_later_request_cannot_change_flow_control(running: Running) -> None:
    """Flow control is set in a stream's first request; later it is INVALID_ARGUMENT, as pubsub.proto says."""
    running.create()
    first = wire.StreamingPullRequest(subscription=SUBSCRIPTION, stream_ack_deadline_seconds=10)
    later = wire.StreamingPullRequest(max_outstanding_messages=5)
    stream = running.channel.stream_stream(_METHOD)(iter([first.SerializeToString(), later.SerializeToString()]))
    wait_until(lambda: not stream.is_active(), what="the stream refused")
    assert stream.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_exactly_once_acks_on_the_stream_are_confirmed(running: Running) -> None:
    """An ack sent on the stream of an exactly-once subscription is confirmed there, a stale one as invalid."""
    running.create(enable_exactly_once_delivery=True)
    running.publish(b"x")
    answers: list[bytes] = []
    more = threading.Condition()
    outbox = [wire.StreamingPullRequest(subscription=SUBSCRIPTION, stream_ack_deadline_seconds=10)]

    def requests() -> object:
        for _ in range(2):
            with more:
                assert more.wait_for(lambda: bool(outbox), 10)
                yield outbox.pop().SerializeToString()

    stream = running.channel.stream_stream(_METHOD)(requests())
    received = wire.StreamingPullResponse.FromString(next(stream))
    assert received.subscription_properties.exactly_once_delivery_enabled
    ack_id = received.received_messages[0].ack_id
    with more:
        outbox.append(wire.StreamingPullRequest(ack_ids=[ack_id, "999.1.1-1".replace("999", ack_id.split(".")[0])]))
        more.notify()
    answers += list(stream)
    confirmed = [wire.StreamingPullResponse.FromString(answer).acknowledge_confirmation for answer in answers]
    assert [list(item.ack_ids) for item in confirmed if item.ack_ids] == [[ack_id]]
    assert any(item.invalid_ack_ids for item in confirmed)
