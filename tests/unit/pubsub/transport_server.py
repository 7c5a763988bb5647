"""gRPC over HTTP/2: the transport alone, with services of its own, for the tests beside this file."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import grpc

from localcloud.pubsub.transport import Call, GrpcServer, Status
from localcloud.pubsub.transport.status import Method, Refusal

T = TypeVar("T")
ECHO, REVERSE, REFUSE = "/test.T/Echo", "/test.T/Reverse", "/test.T/Refuse"
BREAK, HANG, POUR = "/test.T/Break", "/test.T/Hang", "/test.T/Pour"


class _Refused(Refusal):
    code = Status.FAILED_PRECONDITION

    def details(self) -> bytes:
        return b"\x08\x09"


class Server:
    """A server with a few methods, on a loop which the tests drive."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.hanging = 0
        self.poured = 0
        methods = {
            ECHO: Method("Echo", False, bytes, self._echo),
            REFUSE: Method("Refuse", False, bytes, self._refuse),
            BREAK: Method("Break", False, bytes, self._break),
            HANG: Method("Hang", False, bytes, self._hang),
            REVERSE: Method("Reverse", True, bytes, self._reverse),
            POUR: Method("Pour", True, bytes, self._pour),
        }
        self.grpc = GrpcServer(methods.items())
        self.port = self.run(self.grpc.start("127.0.0.1", 0))

    def run(self, work: Awaitable[T]) -> T:
        async def whole() -> T:
            async with asyncio.timeout(30):
                return await work

        return self.loop.run_until_complete(whole())

    def channel(self, **options: Any) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(
            f"127.0.0.1:{self.port}",
            [
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
                *options.pop("options", ()),
            ],
            **options,
        )

    async def _echo(self, request: bytes, call: Call) -> bytes:
        return request

    async def _refuse(self, request: bytes, call: Call) -> bytes:
        raise _Refused(request.decode())

    async def _break(self, request: bytes, call: Call) -> bytes:
        raise RuntimeError("a defect")

    async def _hang(self, request: bytes, call: Call) -> bytes:
        self.hanging += 1
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.hanging -= 1
        return b""

    async def _reverse(self, request: None, call: Call) -> bytes:
        while (message := await call.read()) is not None:
            await call.write(message[::-1])
        return b""

    async def _pour(self, request: None, call: Call) -> bytes:
        while True:
            await call.write(bytes(100_000))
            self.poured += 1

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.sleep(0.005)


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """A server for one test; what its connections left is over when this ends."""
    made = Server()
    yield made
    made.run(made.grpc.stop(0.0))
    made.run(_settled())
    made.loop.close()


async def _settled() -> None:
    """Let ended tasks leave the loop."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=5)
