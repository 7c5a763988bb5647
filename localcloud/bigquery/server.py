"""The local BigQuery as a part of the local cloud: one REST port, one gRPC port, one data directory."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

from localcloud.bigquery.calls import BigQueryDiscovery, Threads
from localcloud.bigquery.datasets import DatasetHandlers
from localcloud.bigquery.engine import Engine
from localcloud.bigquery.gcs import Storage
from localcloud.bigquery.jobs.handlers import JobHandlers
from localcloud.bigquery.jobs.results import ResultHandlers
from localcloud.bigquery.jobs.service import JobService
from localcloud.bigquery.projects import ProjectHandlers
from localcloud.bigquery.resources import Sizes
from localcloud.bigquery.sessions import Sessions
from localcloud.bigquery.storage_read import StorageReadServer
from localcloud.bigquery.streaming import StreamingHandlers
from localcloud.bigquery.tables import TableHandlers
from localcloud.bigquery.uploads import Uploads
from localcloud.discovery import Discovery
from localcloud.faults import Faults
from localcloud.http import HttpServer
from localcloud.rest import Handler, RestApi, combine


class BigQueryServer:
    """Serves BigQuery REST v2 and the Storage Read API from one data directory."""

    def __init__(
        self,
        *,
        data_dir: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        grpc_port: int = 0,
        storage_endpoint: str | None = None,
        faults: Faults | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Wire the part; nothing is opened before `start`.

        Args:
            data_dir: everything durable lives here; made if missing.
            host: the address to bind.
            port: of REST; 0 for a free one.
            grpc_port: of the Storage Read API; 0 for a free one.
            storage_endpoint: where gs:// is, `http://127.0.0.1:PORT`; None reads STORAGE_EMULATOR_HOST.
            faults: switched-on faults for the REST methods.
            clock: seconds since 1970.
        """
        root = Path(data_dir)
        sizes = Sizes()
        discovery = BigQueryDiscovery.load("bigquery", "v2")
        self._engine = Engine(root)
        self._threads = Threads()
        self._uploads = Uploads(self._engine.incoming)
        self._jobs = JobService(self._engine, Storage(_endpoint(storage_endpoint)), sizes, clock)
        self._sessions = Sessions(self._engine, root / "sessions", clock)
        handlers = self._handlers(discovery, sizes)
        faults = Faults() if faults is None else faults
        self._methods = tuple(handlers)
        app = combine(RestApi(discovery, handlers, faults), faults=faults)
        self._http = HttpServer(app, host=host, port=port)
        self._read = StorageReadServer(self._sessions, host=host, port=grpc_port)
        self.grpc_port = grpc_port

    @property
    def storage_port(self) -> int:
        """The gRPC port, under the name by which the whole local cloud asks for it."""
        return self.grpc_port

    def methods(self) -> tuple[str, ...]:
        """The discovery ids of the REST methods that are offered."""
        return self._methods

    async def start(self) -> int:
        """Bind both ports, take up jobs that a former process left; the REST port."""
        self.grpc_port = await self._read.start()
        try:
            await asyncio.to_thread(self._load)
            return await self._http.start()
        except BaseException:
            await self.stop(0)
            raise

    async def stop(self, grace_s: float = 1.0) -> None:
        """Close sockets, interrupt jobs (they are resumed at the next start), write a checkpoint."""
        await self._http.stop(grace_s)
        await self._read.stop(grace_s)
        await asyncio.to_thread(self._close, grace_s)

    def _handlers(self, discovery: Discovery, sizes: Sizes) -> dict[str, Handler]:
        return {
            **ProjectHandlers(self._engine, self._threads).table(),
            **DatasetHandlers(self._engine, self._jobs, self._threads).table(),
            **TableHandlers(self._engine, self._jobs, sizes, discovery, self._threads).table(),
            **StreamingHandlers(self._engine, self._jobs, self._threads).table(),
            **JobHandlers(self._jobs, self._uploads, discovery, self._threads).table(),
            **ResultHandlers(self._jobs, discovery, self._threads).table(),
        }

    def _load(self) -> None:
        self._sessions.sweep()
        # A start with nothing to finish does not open the database.
        owned = self._jobs.resume() if self._jobs.has_unfinished() else set()
        self._uploads.sweep(owned)

    def _close(self, grace_s: float) -> None:
        self._jobs.stop(grace_s)
        self._threads.close()
        self._engine.close()


def _endpoint(given: str | None) -> str:
    """Where gs:// is, as a URL; empty when nobody says."""
    found = os.environ.get("STORAGE_EMULATOR_HOST", "") if given is None else given
    return f"http://{found}" if found and "://" not in found else found
