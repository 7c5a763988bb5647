"""Accept jobs, run them in threads, finish each in one commit with its effect.

What makes a job happen exactly once: its row is committed before the caller hears of it (a second insert of the same id is a
409); its body only stages; its end, its effect and its statistics are one commit. A process killed in between leaves a row
in state RUNNING and a marker file; the next start finds the marker and runs the body again from the beginning. The markers
exist so that a start with nothing to do need not open the database.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localcloud.bigquery import catalog
from localcloud.bigquery.engine import Engine
from localcloud.bigquery.errors import BigQueryError, Invalid, Stopped, classify
from localcloud.bigquery.gcs import Storage
from localcloud.bigquery.jobs import store
from localcloud.bigquery.jobs.store import Doc, Stored
from localcloud.bigquery.jobs.task import Outcome, Task
from localcloud.bigquery.names import check_job, check_project
from localcloud.bigquery.resources import LOCATION, Sizes

log = logging.getLogger(__name__)

_WORKERS = 4
_KINDS = ("load", "query", "copy", "extract")
# BigQuery keeps jobs for six months.
_HISTORY_MS = 180 * 24 * 3600 * 1000
# A requestId is remembered for fifteen minutes.
_REQUEST_MS = 15 * 60 * 1000
_USER = "local@localhost"

Clock = Callable[[], float]


@dataclass(slots=True)
class _Running:
    task: Task
    future: Future[None]


class JobService:
    """The jobs of one database. Methods block; call them from threads, but for `wait`."""

    def __init__(self, engine: Engine, storage: Storage, sizes: Sizes, clock: Clock) -> None:
        self.engine = engine
        self.sizes = sizes
        self._storage = storage
        self._clock = clock
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="bigquery-job")
        self._running: dict[tuple[str, str], _Running] = {}
        self._lock = threading.Lock()
        self._stopping = False
        self._markers = engine.root / "unfinished"

    def now_ms(self) -> int:
        """Milliseconds since 1970, as BigQuery's times are."""
        return int(self._clock() * 1000)

    def accept(self, project: str, body: Doc, *, upload: str = "", request_id: str = "") -> str:
        """Take a job on; it is durable and starts at once when this returns.

        Args:
            project: the path's project.
            body: the Job resource of the request.
            upload: the file's name in `incoming`; it belongs to the job from now on.
            request_id: of a `jobs.query`; the same one again within minutes means the same job.

        Returns:
            The job's id.

        Raises:
            AlreadyExists: a job of this id was accepted before.
            Invalid: no or several kinds, a bad id.
        """
        doc = self._new_doc(project, body)
        job_id: str = doc["jobReference"]["jobId"]
        marker = self._mark()
        stored = Stored(doc, {"marker": marker.name} | ({"upload": upload} if upload else {}))
        try:
            with self.engine.write() as cursor:
                known = self._known_request(cursor, project, request_id)
                if known is None:
                    store.insert(cursor, project, job_id, self.now_ms(), request_id, stored)
        except BaseException:
            marker.unlink(missing_ok=True)
            raise
        if known is not None:
            marker.unlink(missing_ok=True)
            return known
        self._start(stored)
        return job_id

    def dry_run(self, project: str, body: Doc) -> Doc:
        """Check a query without running or keeping it."""
        from localcloud.bigquery.jobs import query

        doc = self._new_doc(project, body)
        if "query" not in doc["configuration"]:
            raise Invalid("dryRun is offered for query jobs only; leave it out, or send the job as it is.")
        task = self._task(Stored(doc, {}))
        doc["statistics"] |= query.dry_run(task)
        doc["status"] = {"state": "DONE"}
        doc["jobReference"].pop("jobId")
        doc.pop("id")
        doc.pop("selfLink")
        return doc

    def get(self, project: str, job_id: str, location: str | None = None) -> Stored:
        """The job as it stands; raises NotFound."""
        with self.engine.read() as cursor:
            return store.get(cursor, project, job_id, location)

    def page(
        self, project: str, states: list[str], low_ms: int | None, high_ms: int | None, most: int, offset: int
    ) -> list[Stored]:
        """Jobs, newest first."""
        with self.engine.read() as cursor:
            return store.page(cursor, project, states, low_ms, high_ms, most, offset)

    def cancel(self, project: str, job_id: str, location: str | None = None) -> Doc:
        """Ask a job to end; as in the cloud it may still finish. Its document back."""
        stored = self.get(project, job_id, location)
        with self._lock:
            running = self._running.get((project, job_id))
        if running is not None:
            running.task.cancel()
        return stored.doc

    def delete(self, project: str, job_id: str, location: str | None = None) -> None:
        """Forget a finished job."""
        with self.engine.write() as cursor:
            if not store.get(cursor, project, job_id, location).is_done:
                raise Invalid(f"Job {project}:{job_id} is still running; cancel it and wait before you delete it.")
            store.delete(cursor, project, job_id)

    async def wait(self, project: str, job_id: str, timeout_s: float) -> bool:
        """Wait until the job is done, or the time is over; True when done."""
        with self._lock:
            running = self._running.get((project, job_id))
        if running is None:
            return True
        done, _ = await asyncio.wait([asyncio.wrap_future(running.future)], timeout=timeout_s)
        return bool(done)

    def has_unfinished(self) -> bool:
        """True when a former process left jobs to finish; asks the file system only."""
        return self._markers.is_dir() and any(self._markers.iterdir())

    def resume(self) -> set[str]:
        """Start again what a former process did not finish; the uploaded files that this needs."""
        with self.engine.write() as cursor:
            left = store.unfinished(cursor)
            store.forget_before(cursor, self.now_ms() - _HISTORY_MS)
        known = {stored.internal.get("marker") for stored in left}
        for marker in self._markers.iterdir():
            if marker.name not in known:
                marker.unlink(missing_ok=True)
        for stored in left:
            log.info("job resumed", extra={"action": "job_resumed", "job_id": stored.doc["id"]})
            self._start(stored)
        return {str(stored.internal["upload"]) for stored in left if "upload" in stored.internal}

    def stop(self, grace_s: float) -> None:
        """Interrupt what runs; it stays RUNNING in the database and is resumed at the next start."""
        self._stopping = True
        with self._lock:
            running = list(self._running.values())
        for one in running:
            one.task.cancel()
        for one in running:
            try:
                one.future.result(timeout=max(grace_s, 0.1))
            except TimeoutError:
                log.warning("job did not stop in time", extra={"action": "job_stop_late", "job_id": one.task.job_id})
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _known_request(self, cursor: Any, project: str, request_id: str) -> str | None:
        if not request_id:
            return None
        found = store.find_request(cursor, project, request_id, self.now_ms() - _REQUEST_MS)
        return str(found.doc["jobReference"]["jobId"]) if found else None

    def _new_doc(self, project: str, body: Doc) -> Doc:
        check_project(project)
        configuration = body.get("configuration") or {}
        kinds = [kind for kind in _KINDS if configuration.get(kind) is not None]
        if len(kinds) != 1:
            raise Invalid(f"A job's configuration needs exactly one of {_KINDS}; it has {kinds or 'none'}.")
        reference = body.get("jobReference") or {}
        if reference.get("projectId", project) != project:
            raise Invalid(
                f"jobReference.projectId is {reference['projectId']}, the path says {project}; make them equal."
            )
        job_id = check_job(reference.get("jobId") or f"job_{uuid.uuid4().hex}")
        location = reference.get("location") or LOCATION
        now = str(self.now_ms())
        return {
            "kind": "bigquery#job",
            "id": f"{project}:{location}.{job_id}",
            "selfLink": f"https://bigquery.googleapis.com/bigquery/v2/projects/{project}/jobs/{job_id}?location={location}",
            "user_email": _USER,
            "configuration": {**configuration, "jobType": kinds[0].upper()},
            "jobReference": {"projectId": project, "jobId": job_id, "location": location},
            "statistics": {"creationTime": now, "startTime": now},
            "status": {"state": "RUNNING"},
        }

    def _mark(self) -> Path:
        self._markers.mkdir(parents=True, exist_ok=True)
        marker = self._markers / uuid.uuid4().hex
        marker.touch()
        return marker

    def _task(self, stored: Stored) -> Task:
        return Task(self.engine, self._storage, self.sizes, stored.doc, stored.internal, self.now_ms())

    def _start(self, stored: Stored) -> None:
        task = self._task(stored)
        key = (task.project, task.job_id)
        with self._lock:
            future = self._pool.submit(self._run, task, stored)
            self._running[key] = _Running(task, future)
        future.add_done_callback(lambda _: self._forget(key))

    def _forget(self, key: tuple[str, str]) -> None:
        with self._lock:
            self._running.pop(key, None)

    def _run(self, task: Task, stored: Stored) -> None:
        timer = self._timer(task, stored)
        try:
            outcome = _body(task)
            task.check()
            self._finish(task, stored, outcome)
        except BaseException as error:  # noqa: BLE001 - every end of a job is written down, whatever ended it
            self._fail(task, stored, error)
        finally:
            if timer is not None:
                timer.cancel()

    def _finish(self, task: Task, stored: Stored, outcome: Outcome) -> None:
        with self.engine.write() as cursor:
            more = outcome.commit(cursor) if outcome.commit is not None else {}
            done = self._done_doc(stored, outcome, more)
            store.update(cursor, task.project, task.job_id, done)
            catalog.remove_expired(cursor, self.now_ms())
        task.staged.clear()
        self._clean(stored)

    def _done_doc(self, stored: Stored, outcome: Outcome, more: Doc) -> Stored:
        doc = {**stored.doc, "status": {"state": "DONE"}}
        if outcome.warnings:
            doc["status"]["errors"] = outcome.warnings
        statistics = {**stored.doc["statistics"], **outcome.statistics, "endTime": str(self.now_ms())}
        for key, value in more.items():
            statistics[key] = {**statistics.get(key, {}), **value}
        doc["statistics"] = statistics
        internal = dict(stored.internal)
        if outcome.result is not None:
            internal |= {"result": outcome.result.to_json(), "rows": outcome.row_count}
            query = {**doc["configuration"]["query"], "destinationTable": outcome.result.to_json()}
            doc["configuration"] = {**doc["configuration"], "query": query}
        return Stored(doc, internal)

    def _fail(self, task: Task, stored: Stored, error: BaseException) -> None:
        for physical in task.staged:
            self.engine.discard(physical)
        if self._stopping or not isinstance(error, Exception):
            log.info("job left for the next start", extra={"action": "job_left", "job_id": task.job_id})
            return
        known = classify(error)
        if isinstance(known, Stopped) and task.stop_reason:
            known = Stopped(task.stop_reason)
        if not isinstance(error, BigQueryError) and known.code >= 500:
            log.error("job failed", extra={"action": "job_failed", "job_id": task.job_id}, exc_info=error)
        doc = {**stored.doc, "status": {"state": "DONE", "errorResult": known.proto(), "errors": known.protos()}}
        doc["statistics"] = {**stored.doc["statistics"], "endTime": str(self.now_ms())}
        try:
            with self.engine.write() as cursor:
                store.update(cursor, task.project, task.job_id, Stored(doc, stored.internal))
        except Exception:
            log.exception("a job's failure could not be written", extra={"action": "job_lost", "job_id": task.job_id})
            return
        self._clean(stored)

    def _clean(self, stored: Stored) -> None:
        if stored.internal.get("upload"):
            (self.engine.incoming / stored.internal["upload"]).unlink(missing_ok=True)
        (self._markers / stored.internal["marker"]).unlink(missing_ok=True)

    def _timer(self, task: Task, stored: Stored) -> threading.Timer | None:
        limit_ms = int(stored.doc["configuration"].get("jobTimeoutMs") or 0)
        if not limit_ms:
            return None
        timer = threading.Timer(limit_ms / 1000, task.cancel, [f"Operation timed out after {limit_ms / 1000} seconds."])
        timer.daemon = True
        timer.start()
        return timer


def _body(task: Task) -> Outcome:
    """Run the job's body; the modules are imported when the first job of their kind comes."""
    kind = str(task.doc["configuration"]["jobType"])
    if kind == "LOAD":
        from localcloud.bigquery.jobs.load import run_load

        return run_load(task)
    if kind == "QUERY":
        from localcloud.bigquery.jobs.query import run_query

        return run_query(task)
    if kind == "COPY":
        from localcloud.bigquery.jobs.copy import run_copy

        return run_copy(task)
    from localcloud.bigquery.jobs.extract import run_extract

    return run_extract(task)
