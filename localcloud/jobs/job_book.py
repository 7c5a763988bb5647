"""Jobs of both kinds, Dataflow's and Vertex AI's: created with their run in one transaction, and in step with it.

QUEUED (no free slot) → PENDING → RUNNING → DONE or SUCCEEDED, FAILED; RUNNING → CANCELLING → CANCELLED. A state never
goes back: a job whose processes are started anew (pre-emption, a restart of the laptop) stays RUNNING.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from localcloud.faults import Faults
from localcloud.jobs.job_index import Demand, JobIndex
from localcloud.jobs.logs import LogFile
from localcloud.jobs.names import Clock
from localcloud.jobs.records import Job, JobKind, Outcome, Run
from localcloud.jobs.store import Document, Store
from localcloud.jobs.supervisor import Supervisor

_SUCCEEDED = {"dataflow": "JOB_STATE_DONE", "custom": "JOB_STATE_SUCCEEDED"}
_RUN_FAULTS = frozenset({"slow", "preempt"})
_TAIL_BYTES = 8192
_TAIL_LINES = 10
KEPT_US = 30 * 86_400 * 1_000_000  # Dataflow keeps finished jobs for 30 days


class JobBook:
    """All jobs of one kind; the listener of their runs."""

    def __init__(self, kind: JobKind, store: Store, supervisor: Supervisor, clock: Clock, faults: Faults) -> None:
        self.kind: JobKind = kind
        self._store = store
        self._supervisor = supervisor
        self._clock = clock
        self._faults = faults
        self._index = JobIndex(Job.of(document) for document in store.documents(kind))
        supervisor.listen(kind, self)

    def get(self, key: str) -> Job | None:
        """Return a job by `projects/p/locations/l/<id>`."""
        document = self._store.get(self.kind, key)
        return Job.of(document) if document else None

    def newest(
        self, parent: str, wanted: Callable[[Document], bool] | None = None, demand: Demand | None = None
    ) -> Iterator[Job]:
        """The jobs of a location, newest first; only those whose record is `wanted`.

        Args:
            demand: what `wanted` asks of every job, so that others need not be looked at.
        """
        for document in self._documents(parent, demand or Demand()):
            if wanted is None or wanted(document):
                yield Job.of(document)

    def _documents(self, parent: str, demand: Demand) -> Iterator[Document]:
        keys = self._index.newest(parent, demand)
        if keys is None:
            yield from self._store.documents(self.kind, parent, newest_first=True)
            return
        for key in keys:
            document = self._store.get(self.kind, key)
            if document is not None:
                yield document

    def create(self, job: Job, run: Run, method_id: str) -> Job:
        """Record a job with its run; it starts at once or when a slot is free. Answers the job as recorded."""
        faults = {fault.kind: fault for fault in self._faults.take(method_id, _RUN_FAULTS)}
        state = "JOB_STATE_PENDING" if self._supervisor.has_slot else "JOB_STATE_QUEUED"
        job = job.but(state=state)
        if "slow" in faults:
            run = run.but(not_before_us=self._clock() + int(faults["slow"].delay_s * 1e6))
        with self._store.transaction():
            self._save(job)
            self._supervisor.submit(run)
        if "preempt" in faults:
            delay_s = faults["preempt"].delay_s
            self._supervisor.after(run.run_id, delay_s, lambda: self._supervisor.preempt(run.run_id))
        return job

    def takes_duplicate(self, method_id: str) -> bool:
        """Say whether the service shall create the job twice, as a retried request behind its front end would."""
        return bool(self._faults.take(method_id, frozenset({"duplicate"})))

    def cancel(self, job: Job) -> Job:
        """Begin to cancel an active job; one that has not started never will."""
        job = job.but(state="JOB_STATE_CANCELLING", update_us=self._clock())
        with self._store.transaction():
            self._save(job)
            self._supervisor.cancel(job.run_id)
        return job

    def delete(self, job: Job) -> None:
        """Forget a finished job, its run and its log."""
        run = self._supervisor.get(job.run_id)
        with self._store.transaction():
            self._store.after_commit(lambda: self._index.remove(job))
            self._store.delete(self.kind, job.key)
            self._store.delete("run", job.run_id)
        if run is not None:
            LogFile(Path(run.log)).delete()

    def purge(self) -> None:
        """Forget jobs that ended more than 30 days ago."""
        limit = self._clock() - KEPT_US
        for document in self._store.documents(self.kind):
            job = Job.of(document)
            if job.end_us and job.end_us < limit:
                self.delete(job)

    # The listener's side

    def run_started(self, run: Run) -> None:
        job = self._job_of(run)
        if job is None or job.start_us:
            return
        now = self._clock()
        state = job.state if job.state == "JOB_STATE_CANCELLING" else "JOB_STATE_RUNNING"
        job = job.but(state=state, start_us=now, update_us=now)
        self._save(_with_message(job, now, "JOB_MESSAGE_BASIC", f"Started {Path(run.argv[0]).name} (pid {run.pid})."))

    def run_ended(self, run: Run, outcome: Outcome) -> None:
        job = self._job_of(run)
        if job is None:
            return
        now = self._clock()
        state, error = self._verdict(run, outcome)
        job = job.but(state=state, error=error, end_us=now, update_us=now)
        if error is None:
            job = _with_message(job, now, "JOB_MESSAGE_BASIC", "Success.")
        else:
            job = _with_message(job, now, "JOB_MESSAGE_ERROR", error["message"])
        self._save(job)

    def _verdict(self, run: Run, outcome: Outcome) -> tuple[str, dict[str, Any] | None]:
        if outcome.succeeded:
            return _SUCCEEDED[self.kind], None
        if outcome.reason == "cancelled":
            # A job that ended well before the signal reached it has still been cancelled: best effort, as documented.
            return "JOB_STATE_CANCELLED", {"code": 1, "message": "CANCELED"}
        if outcome.reason == "expired":
            return "JOB_STATE_FAILED", {"code": 4, "message": f"The job exceeded its timeout of {run.timeout_s:g} s."}
        if outcome.reason == "refused":
            return "JOB_STATE_FAILED", {"code": 5, "message": outcome.message}
        if outcome.reason == "lost":
            return "JOB_STATE_FAILED", {"code": 13, "message": f"Internal error: {outcome.message}."}
        return "JOB_STATE_FAILED", {"code": 3, "message": self._failure_text(run, outcome.exit_code)}

    def _failure_text(self, run: Run, code: int | None) -> str:
        tail = log_tail(Path(run.log))
        if self.kind == "custom":
            return (
                f"The replica workerpool0-0 exited with a non-zero status of {code}. Termination reason: Error.\n{tail}"
            )
        return (
            "Error occurred in the launcher container: Template launch failed. See console logs. "
            f"The process exited with status {code}.\n{tail}"
        )

    def _job_of(self, run: Run) -> Job | None:
        return self.get(run.owner)

    def _save(self, job: Job) -> None:
        with self._store.transaction():
            self._store.after_commit(lambda: self._index.put(job))
            self._store.put(self.kind, job.key, job.document(), job.parent)


def log_tail(path: Path, max_lines: int = _TAIL_LINES) -> str:
    """Return a log's last lines as text; of a JSON line its message."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL_BYTES))
            raw = file.read()
    except FileNotFoundError:
        return ""
    lines = [line for line in raw.decode("utf-8", "replace").splitlines() if line.strip()]
    return "\n".join(_plain(line) for line in lines[-max_lines:])


def _plain(line: str) -> str:
    try:
        value = json.loads(line)
    except ValueError:
        return line
    if isinstance(value, dict):
        for key in ("message", "msg", "event", "error"):
            if isinstance(value.get(key), str):
                return str(value[key])
    return line


def _with_message(job: Job, at_us: int, importance: str, text: str) -> Job:
    message = {"us": at_us, "importance": importance, "text": text}
    return job.but(messages=[*job.messages, message])
