"""The jobs service: Dataflow v1b3, Vertex AI v1 and Logging v2 on one port; jobs and model servers are local processes."""

import asyncio
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from localcloud.discovery import Discovery
from localcloud.faults import Faults
from localcloud.http import AsgiApp, HttpServer, Receive, Scope, Send
from localcloud.jobs.custom_jobs import CustomJobs
from localcloud.jobs.dataflow import Dataflow
from localcloud.jobs.endpoint_registry import EndpointRegistry
from localcloud.jobs.endpoints import Endpoints
from localcloud.jobs.fleet import Fleet
from localcloud.jobs.images import Images
from localcloud.jobs.job_book import JobBook
from localcloud.jobs.logging_api import Logging
from localcloud.jobs.logs import LogFile
from localcloud.jobs.model_registry import ModelRegistry
from localcloud.jobs.models import Models
from localcloud.jobs.names import Clock, wall_clock
from localcloud.jobs.objects import Objects
from localcloud.jobs.operations import Operations
from localcloud.jobs.store import Store
from localcloud.jobs.supervisor import Supervisor
from localcloud.jobs.surroundings import ENDPOINT_VARIABLES, Surroundings
from localcloud.rest import RestApi, combine

_MARK_INTERVAL_S = 0.5  # how precisely a log line without a time of its own is dated
_KILL_GRACE_S = 5.0  # between TERM and KILL when a job is cancelled

log = logging.getLogger(__name__)


class JobsServer:
    """Runs jobs and serves models on this machine, behind Google's REST APIs.

    Args:
        data_dir: everything durable lives in its folder `jobs`.
        images: the table of images, or its file; None knows no image.
        endpoints: addresses of the local cloud, given to every child; None takes them from this process' environment.
        max_parallel_jobs: how many jobs run at once; others wait in JOB_STATE_QUEUED. None: the number of processors.
        kill_grace_s: how long a cancelled job may take to end before it is killed.
        faults: faults to rehearse.
        clock: microseconds since 1970, never the same twice.
    """

    def __init__(
        self,
        *,
        data_dir: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        images: Images | Path | None = None,
        endpoints: Mapping[str, str] | None = None,
        max_parallel_jobs: int | None = None,
        kill_grace_s: float = _KILL_GRACE_S,
        faults: Faults | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._directory = Path(data_dir).resolve() / "jobs"
        self._host, self._port = host, port
        self._images = Images.load(images) if isinstance(images, Path) else images or Images({}, "the image table")
        if endpoints is None:
            endpoints = {name: os.environ[name] for name in ENDPOINT_VARIABLES if os.environ.get(name)}
        self._surroundings = Surroundings(endpoints, self._directory / "logs")
        self._max_parallel = max_parallel_jobs or os.cpu_count() or 1
        self._kill_grace_s = kill_grace_s
        self._faults = faults or Faults()
        self._clock = clock or wall_clock()
        self._http: HttpServer | None = None
        self._store: Store | None = None

    async def start(self) -> int:
        """Bind, find earlier jobs again, answer; return the bound port.

        Raises:
            OSError: the port is taken.
            StoreLocked: another service works on the same directory.
        """
        for folder in ("logs", "runs"):
            (self._directory / folder).mkdir(parents=True, exist_ok=True, mode=0o700)
        store = self._store = Store(self._directory)
        self._supervisor = Supervisor(
            store,
            self._directory / "runs",
            self._clock,
            max_parallel=self._max_parallel,
            kill_grace_s=self._kill_grace_s,
        )
        self._objects = Objects(self._surroundings.storage_address)
        self._operations = Operations(store, self._clock)
        self._fleet = Fleet(store, self._supervisor, self._clock)
        apis = self._apis(store)
        self._http = HttpServer(self._gate(combine(*apis, faults=self._faults)), host=self._host, port=self._port)
        self._ready = asyncio.Event()
        try:
            # Bound before anything is started: a second service on this port must not touch our jobs.
            self._port = await self._http.start()
        except OSError:
            store.close()
            raise
        self._surroundings.add_endpoints(self._own_endpoints())
        self._fleet.recover()
        await self._supervisor.recover()
        self._operations.recover()
        for book in self._books:
            book.purge()
        self._fleet.purge()
        self._operations.purge()
        self._marker = asyncio.create_task(self._mark_logs(store), name="jobs:marks")
        self._ready.set()
        return self._port

    async def stop(self, grace_s: float = 1.0) -> None:
        """End every child (TERM, then KILL after the grace) and close; what was cut off starts anew next time."""
        http, store, self._http, self._store = self._http, self._store, None, None
        if http is None or store is None:
            return
        self._marker.cancel()
        await http.stop(grace_s)
        await self._operations.stop()
        await self._fleet.stop()
        await self._supervisor.stop(grace_s)
        self._objects.close()
        store.close()

    def _apis(self, store: Store) -> list[RestApi]:
        clock, surroundings = self._clock, self._surroundings
        dataflow_book = JobBook("dataflow", store, self._supervisor, clock, self._faults)
        custom_book = JobBook("custom", store, self._supervisor, clock, self._faults)
        self._books = (dataflow_book, custom_book)
        dataflow = Dataflow(dataflow_book, self._images, self._objects, surroundings, clock)
        custom = CustomJobs(custom_book, self._images, self._operations, surroundings, clock)
        model_registry, endpoint_registry = ModelRegistry(store, clock), EndpointRegistry(store, clock)
        models = Models(model_registry, self._operations, self._objects, endpoint_registry.deployed_refs, clock)
        endpoints = Endpoints(
            endpoint_registry, model_registry, self._fleet, self._images, self._operations, surroundings, clock
        )
        logging_api = Logging(store, clock)
        vertex = {
            **custom.handlers(),
            **models.handlers(),
            **endpoints.handlers(),
            **self._operations.handlers(),
        }
        return [
            RestApi(dataflow.discovery, dataflow.handlers(), self._faults),
            RestApi(Discovery.load("aiplatform", "v1"), vertex, self._faults),
            RestApi(logging_api.discovery, logging_api.handlers(), self._faults),
        ]

    def _gate(self, app: AsgiApp) -> AsgiApp:
        """Hold requests back until earlier jobs have been found again."""

        async def gated(scope: Scope, receive: Receive, send: Send) -> None:
            await self._ready.wait()
            await app(scope, receive, send)

        return gated

    def _own_endpoints(self) -> dict[str, str]:
        address = f"http://{self._host}:{self._port}"
        return {
            "BATON_DATAFLOW_ENDPOINT": address,
            "BATON_AIPLATFORM_ENDPOINT": address,
            "BATON_LOGGING_ENDPOINT": address,
        }

    async def _mark_logs(self, store: Store) -> None:
        while True:
            await asyncio.sleep(_MARK_INTERVAL_S)
            now = self._clock()
            for path in self._supervisor.open_logs():
                LogFile(path).mark(now)
