"""Two ways of running the broker under the model: in this process with a clock moved by hand, or as a process to kill."""

import asyncio
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, Protocol

import grpc
from google.protobuf import empty_pb2
from google.pubsub_v1 import types
from google.rpc import error_details_pb2, status_pb2

from localcloud.pubsub import PubSubServer
from localcloud.pubsub.clock import ManualClock
from tests.support.part_process import PartProcess
from tests.support.waiting import wait_until

_ANSWERS: dict[str, Any] = {
    "CreateTopic": types.Topic,
    "Publish": types.PublishResponse,
    "CreateSubscription": types.Subscription,
    "DetachSubscription": types.DetachSubscriptionResponse,
    "Pull": types.PullResponse,
    "CreateSnapshot": types.Snapshot,
    "Seek": types.SeekResponse,
}
_PUBLISHER = frozenset(("CreateTopic", "DeleteTopic", "Publish", "DetachSubscription"))
_LIMIT_S = 20.0
_NO_MORE_S = 0.01
_OWN_TIME_S = 0.006  # what the broker writes on its own, soon, it has written when time is moved


class Refused(Exception):
    """The broker's refusal.

    Args:
        reasons: by ack id, of an exactly-once answer.
    """

    def __init__(self, code: str, message: str, reasons: dict[str, str]) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.reasons = reasons


class Driver(Protocol):
    """A broker that can be asked, moved in time, stopped and killed."""

    moves_time: bool

    def now_s(self) -> float:
        """The broker's time."""

    def call(self, method: str, request: Any) -> Any:
        """A unary call; raises Refused."""

    def stream(self, request: Any, count: int, patience_s: float) -> list[Any]:
        """Open a stream, read until so many messages have come or nothing more does, and cancel it."""

    def advance(self, seconds: float) -> None:
        """Move time."""

    def restart(self) -> None:
        """Stop gracefully and start on the same folder."""

    def kill(self) -> None:
        """End without any farewell and start on the same folder."""

    def close(self) -> None:
        """End for good."""


class _Client:
    """Calls over a channel, on a loop that runs only while one waits for an answer."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="pubsub-model-"))
        self.loop = loop

    def connect(self, address: str) -> None:
        async def open_channel() -> grpc.aio.Channel:  # it binds itself to the running loop
            return grpc.aio.insecure_channel(address, (("grpc.use_local_subchannel_pool", 1),))

        self._channel = self.loop.run_until_complete(open_channel())

    def call(self, method: str, request: Any) -> Any:
        return self.loop.run_until_complete(self._call(method, request))

    async def _call(self, method: str, request: Any) -> Any:
        service = "Publisher" if method in _PUBLISHER else "Subscriber"
        answer = _ANSWERS[method].pb() if method in _ANSWERS else empty_pb2.Empty
        call = self._channel.unary_unary(
            f"/google.pubsub.v1.{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        try:
            return await call(request, timeout=_LIMIT_S)
        except grpc.aio.AioRpcError as error:
            raise Refused(error.code().name, error.details() or "", _reasons(error)) from None

    def stream(self, request: Any, count: int, patience_s: float) -> list[Any]:
        return self.loop.run_until_complete(self._stream(request, count, patience_s))

    async def _stream(self, request: Any, count: int, patience_s: float) -> list[Any]:
        call = self._channel.stream_stream(
            "/google.pubsub.v1.Subscriber/StreamingPull",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=types.StreamingPullResponse.pb().FromString,
        )()
        await call.write(request)
        received: list[Any] = []
        try:
            while len(received) < count:
                response = await asyncio.wait_for(call.read(), patience_s)
                received += response.received_messages
                patience_s = _NO_MORE_S
        except TimeoutError:
            pass
        call.cancel()
        return received

    def disconnect(self) -> None:
        self.loop.run_until_complete(self._channel.close())

    def close(self) -> None:
        self.disconnect()
        shutil.rmtree(self._folder)


def _reasons(error: grpc.aio.AioRpcError) -> dict[str, str]:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    return dict(info.metadata)
    return {}


class InProcess(_Client):
    """The broker on this thread. It runs only during calls, so that between them its files are what a crash would leave."""

    moves_time = True

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._lives = 0
        self._data_dir = self._folder / "0"
        self._clock = ManualClock()
        self._start()

    def _start(self) -> None:
        self._clock = ManualClock(self._clock.time())
        self._server = PubSubServer(data_dir=self._data_dir, durability="normal", clock=self._clock)
        port = self.loop.run_until_complete(self._server.start())
        self.connect(f"127.0.0.1:{port}")

    def stream(self, request: Any, count: int, patience_s: float) -> list[Any]:
        """As promised; the broker has noticed the cancellation when this returns, so that time may be moved."""
        received = super().stream(request, count, patience_s)
        subscription = self._server.broker.registry.subscription(request.subscription)

        async def turn() -> bool:
            await asyncio.sleep(0.001)
            return not subscription.consumers

        wait_until(lambda: self.loop.run_until_complete(turn()), what="the end of a cancelled stream")
        return received

    def now_s(self) -> float:
        return self._clock.time()

    def advance(self, seconds: float) -> None:
        async def move() -> None:
            self._clock.advance(seconds)
            await asyncio.sleep(_OWN_TIME_S)

        self.loop.run_until_complete(move())

    def _stop(self) -> None:
        self.disconnect()
        self.loop.run_until_complete(self._server.stop(0.0))

    def restart(self) -> None:
        self._stop()
        self._start()

    def kill(self) -> None:
        """Go on with a copy of the files as they are now; what the old broker still writes goes to the old ones."""
        self._lives += 1
        copy = self._folder / str(self._lives)
        shutil.copytree(self._data_dir, copy)
        self._stop()
        self._data_dir = copy
        self._start()

    def close(self) -> None:
        self.loop.run_until_complete(self._server.stop(0.0))
        super().close()


class OwnProcess(_Client):
    """`python -m localcloud.pubsub`, ended by real signals, in real time."""

    moves_time = False

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._process = PartProcess("pubsub", self._folder / "data")
        self._start()

    def _start(self) -> None:
        self._process.start()
        self.connect(self._process.output()["PUBSUB_EMULATOR_HOST"])

    def now_s(self) -> float:
        return time.time()

    def advance(self, seconds: float) -> None:
        raise NotImplementedError("real time cannot be moved")

    def restart(self) -> None:
        self.disconnect()
        assert self._process.stop() == 0
        self._start()

    def kill(self) -> None:
        self.disconnect()
        self._process.kill()
        self._start()

    def close(self) -> None:
        self._process.kill()
        super().close()
