"""A jobs service that holds ten thousand running jobs without ten thousand processes: `python -m bench.inflight.jobs FILE`.

It speaks the part of Dataflow v1b3 and Vertex AI v1 that a worker uses; every request and every answer is checked against
Google's discovery documents, as our local cloud's are. A job runs until it is told to end. Beside the APIs it passes
Cloud Storage's calls on to where STORAGE_EMULATOR_HOST says (`counting`), so that one place knows what a worker asked for.
It writes its addresses to FILE when it answers. What is no part of Google's APIs lies under `/-/`:

    GET  /-/counts   {"calls": {method: n}, "looks": {method: n}, "created": n, "storage": {what: n}}
    POST /-/seed     {"kind": "vertex" | "dataflow", "jobs": [{"id": …, "name": …, "labels": {…}}, …]}: they run
    POST /-/end      {"ids": […]}: these have succeeded
"""

import asyncio
import bisect
import contextlib
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.inflight.counting import CountingProxy
from localcloud.discovery import Discovery
from localcloud.http import HttpServer, Receive, Scope, Send
from localcloud.jobs import filters
from localcloud.jobs.names import dataflow_job_id, new_number, not_found, timestamp, wall_clock
from localcloud.rest import ApiError, Call, Handler, Response, RestApi, combine

VERTEX, DATAFLOW = "aiplatform.projects.locations.customJobs.", "dataflow.projects.locations."
_RUNNING = "JOB_STATE_RUNNING"
_DONE = {"vertex": "JOB_STATE_SUCCEEDED", "dataflow": "JOB_STATE_DONE"}
_PAGE, _LARGEST = {"vertex": 100, "dataflow": 100}, {"vertex": 100, "dataflow": 1000}
_FIELDS: dict[str, filters.Field] = {"display_name": lambda job: str(job.name), "state": lambda job: str(job.state)}


@dataclass(slots=True)
class Job:
    """One job, whichever API made it."""

    id: str
    name: str
    labels: dict[str, str]
    created_us: int
    spec: dict[str, Any]
    state: str = _RUNNING


@dataclass
class Book:
    """The jobs of one API, in the order of their creation, and found by name and by run."""

    kind: str
    jobs: dict[str, Job] = field(default_factory=dict)
    order: list[Job] = field(default_factory=list)
    by_name: dict[str, list[Job]] = field(default_factory=dict)
    by_run: dict[str, list[Job]] = field(default_factory=dict)

    def add(self, job: Job) -> Job:
        self.jobs[job.id] = job
        self.order.append(job)
        self.by_name.setdefault(job.name, []).append(job)
        self.by_run.setdefault(job.labels.get("baton-run", ""), []).append(job)
        return job

    def get(self, job_id: str) -> Job:
        if job_id not in self.jobs:
            raise not_found(job_id)
        return self.jobs[job_id]

    def page(self, call: Call, among: list[Job], wanted: Any) -> tuple[list[Job], dict[str, str]]:
        """Return a page of the jobs that are `wanted`, the newest first, and the token of the next."""
        size = min(call.params.get("pageSize", 0) or _PAGE[self.kind], _LARGEST[self.kind])
        token = call.params.get("pageToken", "")
        end = bisect.bisect_left(among, int(token), key=lambda job: job.created_us) if token else len(among)
        taken: list[Job] = []
        for index in range(end - 1, -1, -1):
            if not wanted(among[index]):
                continue
            if len(taken) == size:
                return taken, {"nextPageToken": str(taken[-1].created_us)}
            taken.append(among[index])
        return taken, {}


class Service:
    """Both APIs, and their counts."""

    def __init__(self) -> None:
        self.vertex, self.dataflow = Book("vertex"), Book("dataflow")
        self.calls: Counter[str] = Counter()
        self.looks: Counter[str] = Counter()
        self.created = 0
        self._clock = wall_clock()
        self._filters: dict[str, filters.ResourceFilter] = {}

    def handlers(self) -> tuple[dict[str, Handler], dict[str, Handler]]:
        """Return the handlers of Vertex AI and of Dataflow, each counted."""
        vertex = {
            VERTEX + "create": self._create,
            VERTEX + "get": self._get,
            VERTEX + "list": self._list,
            VERTEX + "cancel": self._cancel,
        }
        dataflow = {
            DATAFLOW + "flexTemplates.launch": self._launch,
            DATAFLOW + "jobs.get": self._get_dataflow,
            DATAFLOW + "jobs.list": self._list_dataflow,
            DATAFLOW + "jobs.update": self._update,
            DATAFLOW + "jobs.messages.list": self._messages,
        }
        return (
            {name: self._counted(handler) for name, handler in vertex.items()},
            {name: self._counted(handler) for name, handler in dataflow.items()},
        )

    def _counted(self, handler: Handler) -> Handler:
        async def counted(call: Call) -> dict[str, Any] | Response | None:
            method = call.method_id.split(".locations.")[1]
            self.calls[method] += 1
            if method.endswith("jobs.list") or method == "customJobs.list":
                # With a run or a name it looks for one job; without, at all of them.
                kind = "find" if "name" in call.params or "baton-run=" in call.params.get("filter", "") else "all"
                self.looks[f"{method} {kind} pages"] += 1
                self.looks[f"{method} {kind}"] += "pageToken" not in call.params
            return await handler(call)

        return counted

    def seed(self, kind: str, jobs: Iterable[dict[str, Any]]) -> None:
        """Have jobs running that somebody launched an hour ago."""
        book = self.vertex if kind == "vertex" else self.dataflow
        for job in jobs:
            book.add(Job(job["id"], job["name"], job["labels"], self._clock() - 3_600_000_000, {}))

    def end(self, ids: Iterable[str]) -> None:
        """Have jobs end well."""
        for job_id in ids:
            book = self.vertex if job_id in self.vertex.jobs else self.dataflow
            book.get(job_id).state = _DONE[book.kind]

    # -- Vertex AI ---------------------------------------------------------------------------------------------------

    async def _create(self, call: Call) -> dict[str, Any]:
        body, parent = call.body, call.params["parent"]
        self.created += 1
        name = f"{parent}/customJobs/{new_number()}"
        labels = body.get("labels", {})
        return _custom(self.vertex.add(Job(name, body["displayName"], labels, self._clock(), body["jobSpec"])))

    async def _get(self, call: Call) -> dict[str, Any]:
        return _custom(self.vertex.get(call.params["name"]))

    async def _list(self, call: Call) -> dict[str, Any]:
        text = call.params.get("filter", "")
        wanted = self._filters.get(text)
        if wanted is None:
            wanted = filters.ResourceFilter(text, _FIELDS, labels=lambda job: job.labels)
            if "baton-run=" not in text:
                self._filters[text] = wanted
        among = self.vertex.order
        for restriction in filters.restrictions(filters.parse(text)):
            if restriction.path == ("labels", "baton-run") and restriction.op == "=":
                among = self.vertex.by_run.get(restriction.value, [])
        found, token = self.vertex.page(call, among, wanted)
        return ({"customJobs": [_custom(job) for job in found]} if found else {}) | token

    async def _cancel(self, call: Call) -> dict[str, Any]:
        self.vertex.get(call.params["name"]).state = "JOB_STATE_CANCELLED"
        return {}

    # -- Dataflow ----------------------------------------------------------------------------------------------------

    async def _launch(self, call: Call) -> dict[str, Any]:
        launch = call.body["launchParameter"]
        name = launch["jobName"]
        if any(job.state == _RUNNING for job in self.dataflow.by_name.get(name, [])):
            raise ApiError(409, "ALREADY_EXISTS", f"There is already an active job named {name}.")
        self.created += 1
        now = self._clock()
        labels = launch.get("environment", {}).get("additionalUserLabels", {})
        return {"job": _dataflow(self.dataflow.add(Job(dataflow_job_id(now), name, labels, now, {})), call)}

    async def _get_dataflow(self, call: Call) -> dict[str, Any]:
        job = self.dataflow.get(call.params["jobId"])
        return _dataflow(job, call) | {"labels": job.labels}

    async def _list_dataflow(self, call: Call) -> dict[str, Any]:
        wanted, name = call.params.get("filter", "ALL"), call.params.get("name")
        among = self.dataflow.order if name is None else self.dataflow.by_name.get(name, [])
        is_active = {"ALL": (True, False), "ACTIVE": (True,), "TERMINATED": (False,)}[wanted]
        found, token = self.dataflow.page(call, among, lambda job: (job.state == _RUNNING) in is_active)
        return ({"jobs": [_dataflow(job, call) for job in found]} if found else {}) | token

    async def _update(self, call: Call) -> dict[str, Any]:
        job = self.dataflow.get(call.params["jobId"])
        job.state = call.body["requestedState"]
        return _dataflow(job, call)

    async def _messages(self, call: Call) -> dict[str, Any]:
        self.dataflow.get(call.params["jobId"])
        return {}


def _custom(job: Job) -> dict[str, Any]:
    made = timestamp(job.created_us)
    view = {"name": job.id, "displayName": job.name, "jobSpec": job.spec, "state": job.state, "labels": job.labels}
    return view | {"createTime": made, "updateTime": made, "startTime": made}


def _dataflow(job: Job, call: Call) -> dict[str, Any]:
    """Return a job as a summary shows it: without labels."""
    made = timestamp(job.created_us)
    place = {"projectId": call.params["projectId"], "location": call.params["location"]}
    times = {"createTime": made, "startTime": made, "currentStateTime": made}
    return {"id": job.id, "name": job.name, "type": "JOB_TYPE_BATCH", "currentState": job.state} | place | times


class App:
    """The APIs, and the pages under `/-/`."""

    def __init__(self, service: Service, storage: CountingProxy) -> None:
        self._service = service
        self._storage = storage
        vertex, dataflow = service.handlers()
        self._apis = combine(
            RestApi(Discovery.load("aiplatform", "v1"), vertex), RestApi(Discovery.load("dataflow", "v1b3"), dataflow)
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match (scope["method"], scope["path"]):
            case ("GET", "/-/counts"):
                service = self._service
                counts = {"calls": service.calls, "looks": service.looks, "created": service.created}
                await _answer(send, counts | {"storage": self._storage.counts})
            case ("POST", "/-/seed"):
                body = await _body(receive)
                self._service.seed(body["kind"], body["jobs"])
                await _answer(send, {})
            case ("POST", "/-/end"):
                self._service.end((await _body(receive))["ids"])
                await _answer(send, {})
            case _:
                await self._apis(scope, receive, send)


async def _body(receive: Receive) -> dict[str, Any]:
    chunks, more = [], True
    while more:
        message = await receive()
        chunks.append(message.get("body", b""))
        more = message.get("more_body", False)
    return dict(json.loads(b"".join(chunks)))


async def _answer(send: Send, body: dict[str, Any]) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


async def _serve(file: Path) -> None:
    behind = urlsplit(os.environ["STORAGE_EMULATOR_HOST"])
    storage = CountingProxy(str(behind.hostname), int(behind.port or 80))
    server = HttpServer(App(Service(), storage))
    jobs, stored = await server.start(), await storage.start()
    addresses = {"jobs": f"http://127.0.0.1:{jobs}", "storage": f"http://127.0.0.1:{stored}"}
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(addresses))
    partial.rename(file)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()
    with contextlib.suppress(TimeoutError):  # whoever still has a connection open at the end loses it
        async with asyncio.timeout(2.0):
            await storage.stop()
            await server.stop(1.0)


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
