"""The whole local cloud in one process and one event loop: start every part, tell where they are, stop them."""

import asyncio
import os
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol, runtime_checkable

from localcloud import endpoints
from localcloud.datadir import DataDirLock
from localcloud.faults import Faults
from localcloud.parts import PARTS, STOP_GRACE_S, Setup
from localcloud.ports import PortBook, wait_until_free


@runtime_checkable
class HasGrpcPort(Protocol):
    """BigQuery: its second door is the Storage Read API's."""

    grpc_port: int


@runtime_checkable
class HasMetricsPort(Protocol):
    """Pub/Sub: its second door is for Prometheus."""

    metrics_port: int


class PartError(RuntimeError):
    """A part could not start; names it and the reason."""


class LocalCloud:
    """Everything that answers for Google on this machine.

    Args:
        data_dir: all that is durable, a folder for each part; locked while we run.
        ports: ports chosen by hand, by door (the names in `endpoints.PORT_NAMES`).
        parts: which parts to start; all of them unless told otherwise.
        images: the table of commands that stand for container images.
    """

    def __init__(
        self,
        *,
        data_dir: Path,
        host: str = "127.0.0.1",
        project: str = "baton-local",
        images: Path | None = None,
        ports: Mapping[str, int] | None = None,
        parts: Iterable[str] = tuple(PARTS),
        faults: Faults | None = None,
    ) -> None:
        self._data_dir = data_dir
        self._host = host
        self._project = project
        self._images = images
        self._asked_ports = ports or {}
        self._parts = [name for name in PARTS if name in set(parts)]
        self._faults = faults or Faults()
        self._running = AsyncExitStack()

    async def start(self) -> dict[str, str]:
        """Start every part and write `endpoints.json`; return what it says.

        Raises:
            DataDirError: another local cloud holds the data directory.
            PortError: somebody else holds a part's port.
            PartError: a part could not start; those before it are stopped again.
        """
        async with AsyncExitStack() as stack:
            stack.enter_context(DataDirLock(self._data_dir))
            environment = await self._start_parts(stack)
            endpoints.write(self._data_dir, environment)
            self._running = stack.pop_all()
        return environment

    async def stop(self) -> None:
        """Stop the parts, the last one first, and let go of the data directory."""
        await self._running.aclose()

    async def _start_parts(self, stack: AsyncExitStack) -> dict[str, str]:
        book = PortBook(self._data_dir, self._asked_ports)
        ports = {name: book.port_or_free(name, self._host) for name in endpoints.PORT_NAMES}
        kept = [name for name in ports if book.port(name) and name.partition("-")[0] in self._parts]
        await asyncio.gather(*(wait_until_free(name, self._host, ports[name]) for name in kept))
        environment = endpoints.common(self._project, self._data_dir, os.environ)
        setup = Setup(
            self._data_dir.resolve(), self._host, self._project, self._images, self._faults, ports, environment
        )
        for name in self._parts:
            try:
                server = PARTS[name](setup)
                port = await server.start()
            except (OSError, RuntimeError, ValueError, ImportError) as error:
                raise PartError(f"{name} can't start: {error}") from error
            stack.push_async_callback(server.stop, STOP_GRACE_S)
            setup.started[name] = server
            for door, bound in ((name, port), *_further_doors(server)):
                book.remember(door, bound)
                environment.update(endpoints.variables(door, self._host, bound))
        return environment


def _further_doors(server: object) -> list[tuple[str, int]]:
    doors = [("bigquery-storage", server.grpc_port)] if isinstance(server, HasGrpcPort) else []
    return [*doors, ("pubsub-metrics", server.metrics_port)] if isinstance(server, HasMetricsPort) else doors
