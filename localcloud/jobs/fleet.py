"""The serving processes of deployed models: started, probed, restarted when they die, asked for predictions.

A deployed model's server is on record (`server`) with the run that is its present process. After a crash of the service its
process is found again by the supervisor, probed, and serves on; one that died meanwhile is started anew.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localcloud.jobs.job_book import KEPT_US, log_tail
from localcloud.jobs.logs import LogFile
from localcloud.jobs.names import Clock, new_number
from localcloud.jobs.records import Outcome, Run
from localcloud.jobs.store import Store
from localcloud.jobs.supervisor import Supervisor
from localcloud.jobs.upstream import Answer, Upstream, UpstreamError

KIND = "server"
SERVER_LOG = "server_log"  # outlives the server: what it said is asked for when it is gone
RUN_KIND = "serving"
PORT_VARIABLE = "AIP_HTTP_PORT"
MAX_STARTS = 3  # ends before ever being healthy after which a deployment is given up
_FIRST_PROBE_S = 0.01
_SLOWEST_PROBE_S = 0.5
_PROBE_TIMEOUT_S = 10.0  # of Vertex's contract: 200 within 10 s is healthy
_HEALTH_INTERVAL_S = 10.0
_MISSES = 4  # in a row, then no traffic; of Vertex's contract too
_FIRST_BACKOFF_S = 0.1
_LONGEST_BACKOFF_S = 10.0
_PREDICT_TIMEOUT_S = 60.0

log = logging.getLogger(__name__)


class ServerUnavailable(Exception):
    """No server process answers at the moment; try again."""


class NeverReady(Exception):
    """A server ended again and again, or did not become healthy in time."""


@dataclass(slots=True)
class _Server:
    """One deployed model's server in this process."""

    key: str
    spec: Mapping[str, Any]
    upstream: Upstream | None = None
    failures: int = 0
    last_end: str = ""
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    prober: asyncio.Task[None] | None = None


class Fleet:
    """All servers of one jobs service; the listener of their runs."""

    def __init__(self, store: Store, supervisor: Supervisor, clock: Clock) -> None:
        self._store = store
        self._supervisor = supervisor
        self._clock = clock
        self._servers: dict[str, _Server] = {}
        supervisor.listen(RUN_KIND, self)

    def recover(self) -> None:
        """Take up the servers on record. Call after the store is open and before the supervisor finds their processes."""
        for document in self._store.documents(KIND):
            server = _Server(document["key"], document["spec"])
            self._servers[server.key] = server
            run = self._supervisor.get(document["runId"])
            if run is None or run.phase == "ended":
                self._launch(server, delay_s=0.0)

    async def stop(self) -> None:
        """Stop probing and close connections; the processes are the supervisor's."""
        probers = [server.prober for server in self._servers.values() if server.prober is not None]
        for prober in probers:
            prober.cancel()
        await asyncio.gather(*probers, return_exceptions=True)
        for server in self._servers.values():
            if server.upstream is not None:
                server.upstream.close()

    def ensure(self, key: str, spec: Mapping[str, Any]) -> None:
        """Start a server unless it is on record already.

        Args:
            key: the deployed model, `<endpoint>/deployedModels/<id>`.
            spec: argv, env, directory, log, healthRoute, predictRoute, refusal.
        """
        if key not in self._servers:
            server = _Server(key, spec)
            with self._store.transaction():
                log_document = {"key": key, "log": spec["log"], "createUs": self._clock()}
                self._store.put(SERVER_LOG, spec["log"], log_document)
                self._launch(server, delay_s=0.0)
                self._store.after_commit(lambda: self._servers.update({key: server}))

    def purge(self) -> None:
        """Forget the logs of servers that are long gone."""
        current = {server.spec["log"] for server in self._servers.values()}
        for document in self._store.documents(SERVER_LOG):
            if document["log"] not in current and document["createUs"] < self._clock() - KEPT_US:
                self._store.delete(SERVER_LOG, document["log"])
                LogFile(Path(document["log"])).delete()

    def remove(self, key: str) -> None:
        """End a server for good. Inside the caller's transaction."""
        document = self._store.get(KIND, key)
        if document is None:
            return
        with self._store.transaction():
            self._store.delete(KIND, key)
            self._supervisor.cancel(document["runId"])
            self._store.after_commit(lambda: self._forget(key))

    def _forget(self, key: str) -> None:
        server = self._servers.pop(key, None)
        if server is not None and server.prober is not None:
            server.prober.cancel()

    async def wait_ready(self, key: str, timeout_s: float) -> None:
        """Wait until a server is healthy; raises NeverReady with its last log lines."""
        server = self._servers[key]
        try:
            async with asyncio.timeout(timeout_s):
                while not server.ready.is_set():
                    if server.failures >= MAX_STARTS or "refused" in server.last_end:
                        raise NeverReady(f"{server.last_end}\n{log_tail(Path(server.spec['log']))}")
                    server.changed.clear()
                    await server.changed.wait()
        except TimeoutError as error:
            tail = log_tail(Path(server.spec["log"]))
            raise NeverReady(f"It did not answer its health route within {timeout_s:g} s.\n{tail}") from error

    async def ask(self, key: str, body: bytes, content_type: str) -> Answer:
        """Send one request to a server's predict route.

        Raises:
            ServerUnavailable: it is starting, restarting, unhealthy, or cut the connection.
            TimeoutError: no answer in time.
        """
        server = self._servers.get(key)
        if server is None or server.upstream is None or not server.ready.is_set():
            raise ServerUnavailable(f"The model server of {key} is not ready; it is being (re)started.")
        route = server.spec["predictRoute"]
        try:
            return await server.upstream.request(
                "POST", route, body=body, content_type=content_type, timeout_s=_PREDICT_TIMEOUT_S
            )
        except TimeoutError as error:
            raise TimeoutError(f"The model server of {key} did not answer within {_PREDICT_TIMEOUT_S:g} s.") from error
        except UpstreamError as error:
            raise ServerUnavailable(f"The model server of {key} gave no answer: {error}.") from error

    # The listener's side

    def run_started(self, run: Run) -> None:
        server = self._server_of(run)
        if server is None:
            return
        if server.upstream is not None:
            server.upstream.close()
        server.upstream = Upstream("127.0.0.1", run.port)
        if server.prober is not None:
            server.prober.cancel()
        server.prober = asyncio.get_running_loop().create_task(self._probe(server), name=f"probe:{server.key}")

    def run_ended(self, run: Run, outcome: Outcome) -> None:
        server = self._server_of(run)
        self._store.delete("run", run.run_id)
        if server is None:
            return
        server.ready.clear()
        if server.prober is not None:
            server.prober.cancel()
            server.prober = None
        server.failures += 1
        code = "" if outcome.exit_code is None else f" with status {outcome.exit_code}"
        server.last_end = f"The model server {outcome.reason}{code}. {outcome.message}".rstrip()
        log.warning("model server ended", extra={"action": "server_ended", "server": server.key, "run_id": run.run_id})
        backoff_s = min(_LONGEST_BACKOFF_S, _FIRST_BACKOFF_S * 2 ** (server.failures - 1))
        self._launch(server, delay_s=backoff_s)
        server.changed.set()

    # Small things

    def _server_of(self, run: Run) -> _Server | None:
        """The server whose present process this is, by the record: it may have been tried before in vain."""
        document = self._store.get(KIND, run.owner)
        return self._servers.get(run.owner) if document and document["runId"] == run.run_id else None

    def _launch(self, server: _Server, *, delay_s: float) -> None:
        spec, now = server.spec, self._clock()
        run = Run(
            run_id=f"{RUN_KIND}-{new_number()}",
            owner=server.key,
            argv=spec["argv"],
            env=spec["env"],
            directory=spec["directory"],
            log=spec["log"],
            submitted_us=now,
            not_before_us=now + int(delay_s * 1e6) if delay_s else 0,
            takes_slot=False,
            port_variable=PORT_VARIABLE,
            max_losses=0,  # each end is reported here, and a new run is made
            refusal=spec["refusal"],
        )
        with self._store.transaction():
            self._store.put(KIND, server.key, {"key": server.key, "spec": dict(spec), "runId": run.run_id})
            self._supervisor.submit(run)

    async def _probe(self, server: _Server) -> None:
        """Ask for health: often until the first 200, then every ten seconds."""
        pause_s = _FIRST_PROBE_S
        while not await self._is_healthy(server):
            await asyncio.sleep(pause_s)
            pause_s = min(_SLOWEST_PROBE_S, pause_s * 1.5)
        misses = 0
        while True:
            if misses == 0:
                server.failures = 0
                server.ready.set()
            elif misses >= _MISSES:
                server.ready.clear()
            server.changed.set()
            await asyncio.sleep(_HEALTH_INTERVAL_S)
            misses = 0 if await self._is_healthy(server) else misses + 1

    async def _is_healthy(self, server: _Server) -> bool:
        assert server.upstream is not None
        try:
            answer = await server.upstream.request("GET", server.spec["healthRoute"], timeout_s=_PROBE_TIMEOUT_S)
        except (UpstreamError, TimeoutError):
            return False
        return answer.status == 200
