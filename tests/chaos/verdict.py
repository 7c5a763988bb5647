"""What must hold when the storm is over. Each check returns what is wrong, in a sentence."""

import json
import urllib.parse
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from messages import Envelope, StageFailed
from tests.chaos.saboteur import processes_in
from tests.support.house import BUCKET, PROJECT, WORKERS, House

_LOCATION = f"projects/{PROJECT}/locations/us-central1"
_DATAFLOW = f"/v1b3/projects/{PROJECT}/locations/us-central1/jobs"
_SUCCEEDED = ("JOB_STATE_DONE", "JOB_STATE_SUCCEEDED")
ENDED = (*_SUCCEEDED, "JOB_STATE_FAILED", "JOB_STATE_CANCELLED")


@dataclass(frozen=True, slots=True)
class Job:
    """A job as its service knows it."""

    id: str
    run_id: str
    stage: str
    attempt: int
    state: str


@dataclass
class Evidence:
    """All that the services know when it is over.

    Args:
        records: by (run, stage).
        versions: the labels of every version of every model.
    """

    records: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    markers: list[str] = field(default_factory=list)
    cancelled: set[str] = field(default_factory=set)
    jobs: list[Job] = field(default_factory=list)
    endpoints: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: list[dict[str, str]] = field(default_factory=list)
    processes: list[str] = field(default_factory=list)


def gather(home: House) -> Evidence:
    """Ask every service for what it has."""
    found = Evidence(jobs=jobs_of(home))
    bucket = home.storage().bucket(BUCKET)
    for blob in bucket.list_blobs(prefix="runs/"):
        run_id, _, file = blob.name.removeprefix("runs/").partition("/")
        if file == "cancelled.json":
            found.cancelled.add(run_id)
        else:
            content = bucket.blob(blob.name).download_as_bytes()  # as it is now, not as it was listed
            found.records[run_id, file.removesuffix(".json")] = json.loads(content)
    for prefix in ("inflight/", "cancelling/"):
        found.markers += [blob.name for blob in bucket.list_blobs(prefix=prefix)]
    endpoints = pages(home, f"/v1/{_LOCATION}/endpoints?alt=json", "endpoints")
    found.endpoints = {endpoint["name"].rpartition("/")[2]: endpoint for endpoint in endpoints}
    for model in pages(home, f"/v1/{_LOCATION}/models?alt=json", "models"):
        versions = pages(home, f"/v1/{model['name']}:listVersions?alt=json", "models")
        found.versions += [version["labels"] for version in versions]
    found.processes = [line for pid in processes_in(home.folder) if (line := _command(pid))]
    return found


def jobs_of(home: House, run_id: str = "") -> list[Job]:
    """Return the jobs of all runs, or of one."""
    dataflow = pages(home, f"{_DATAFLOW}?filter=ALL", "jobs")
    custom = pages(home, f"/v1/{_LOCATION}/customJobs?filter=labels.baton-run%3A*", "customJobs")
    found = [_job(job["id"], job["labels"], job["currentState"]) for job in dataflow]
    found += [_job(job["name"], job["labels"], job["state"]) for job in custom]
    return [job for job in found if run_id in ("", job.run_id)]


def pages(home: House, path: str, items: str) -> Iterator[dict[str, Any]]:
    """Yield the items of all pages of a list."""
    token = ""
    while True:
        answer = home.rest(f"{path}&pageSize=100" + (f"&pageToken={urllib.parse.quote(token)}" if token else ""))
        yield from answer.get(items, [])
        token = answer.get("nextPageToken", "")
        if not token:
            return


def judge(found: Evidence, run_ids: Mapping[str, str], told: Mapping[str, Mapping[str, Envelope]]) -> list[str]:
    """Return everything that is wrong.

    Args:
        run_ids: the runs that were started, with their pipelines.
        told: the outcomes that were heard of, by run and event id.
    """
    return [
        *one_outcome(found, run_ids, told),
        *one_job_an_attempt(found),
        *nothing_is_left(found),
        *one_version_an_attempt(found),
        *deployments_are_of_served_runs(found),
    ]


def one_outcome(
    found: Evidence, run_ids: Mapping[str, str], told: Mapping[str, Mapping[str, Envelope]]
) -> Iterator[str]:
    """Each run is served or explained: one event tells it, and the ledger says the same."""
    for run_id in sorted(set(told) - set(run_ids)):
        yield f"an outcome is told of {run_id}, which nobody started"
    for run_id in run_ids:
        events = list(told.get(run_id, {}).values())
        if len(events) != 1:
            yield f"run {run_id} has {len(events)} outcomes: {[event.id for event in events]}"
            continue
        (envelope,) = events
        event = envelope.event
        records = {stage: found.records.get((run_id, stage)) for stage in WORKERS}
        last = event.stage if isinstance(event, StageFailed) else WORKERS[-1]
        if isinstance(event, StageFailed) and not (event.reason and event.message and event.mend):
            yield f"run {run_id} failed without an explanation: {event}"
        for stage in WORKERS[: WORKERS.index(last) + 1]:
            record, is_last = records[stage], stage == last
            wanted = "failed" if is_last and isinstance(event, StageFailed) else "succeeded"
            seen = None if record is None else (record["state"], record.get("outcome"))
            if seen != ("published", wanted):
                yield f"{stage} of {run_id} is {seen}, but the outcome told is {envelope.id}"
        for stage in WORKERS[WORKERS.index(last) + 1 :]:
            if records[stage] is not None:
                yield f"{stage} of {run_id} began although {last} had failed"


def one_job_an_attempt(found: Evidence) -> Iterator[str]:
    """Of all jobs of one stage, run and attempt at most one succeeded, and the record names it; none runs still."""
    by_attempt: dict[tuple[str, str, int], list[Job]] = defaultdict(list)
    for job in found.jobs:
        by_attempt[job.run_id, job.stage, job.attempt].append(job)
        if job.state not in ENDED:
            yield f"job {job.id} of {job.run_id} is {job.state} still"
        if (job.run_id, job.stage) not in found.records:
            yield f"job {job.id} was launched for {job.stage} of {job.run_id}, which no record tells of"
    for (run_id, stage, attempt), jobs in by_attempt.items():
        succeeded = [job.id for job in jobs if job.state in _SUCCEEDED]
        if len(succeeded) > 1:
            yield f"{stage} of {run_id}, attempt {attempt}: {len(succeeded)} jobs succeeded: {succeeded}"
        if len([job for job in jobs if job.state != "JOB_STATE_CANCELLED"]) > 1:
            yield f"{stage} of {run_id}, attempt {attempt}: ran more than once: {jobs}"
        record = found.records.get((run_id, stage), {})
        is_final = record.get("attempt") == attempt and record.get("outcome") == "succeeded"
        if is_final and succeeded != [record["job"]["id"]]:
            yield f"{stage} of {run_id} counts on {record['job']['id']}, but {succeeded} succeeded"


def one_version_an_attempt(found: Evidence) -> Iterator[str]:
    """A model is registered once for each attempt at its rollout, and a served run's has been."""
    counts = Counter((labels["baton-run"], int(labels["baton-attempt"])) for labels in found.versions)
    for (run_id, attempt), count in counts.items():
        if count > 1:
            yield f"attempt {attempt} of {run_id} has {count} model versions"
    for (run_id, stage), record in found.records.items():
        if stage == "deploy" and record.get("outcome") == "succeeded" and not counts[run_id, record["attempt"]]:
            yield f"run {run_id} was served, but its model has no version"


def nothing_is_left(found: Evidence) -> Iterator[str]:
    """No marker, and no process of a job."""
    for marker in found.markers:
        yield f"marker {marker} was left behind"
    for line in found.processes:
        if " prepare " in line or " train " in line:
            yield f"a job's process runs still: {line}"


def deployments_are_of_served_runs(found: Evidence) -> Iterator[str]:
    """What is deployed are the last served run's model and the one before it, each once; the last has all traffic."""
    served = [r for (_, stage), r in found.records.items() if stage == "deploy" and r.get("outcome") == "succeeded"]
    served.sort(key=lambda record: [s["time"] for s in record["history"] if s["state"] == "finished"][-1])
    wrappers = (
        "/bin/sh ",
        "job ",
    )  # of localcloud.jobs.processes and of a spare process; each has the server as its child
    servers = sum(" serve" in line and not line.startswith(wrappers) for line in found.processes)
    deployed = 0
    for name, endpoint in found.endpoints.items():
        ids = [model["id"] for model in endpoint.get("deployedModels", [])]
        deployed += len(ids)
        mine = [r["yields"]["deploy"]["deployed_model_id"] for r in served if r["pipeline"] == name]
        if len(ids) != len(set(ids)) or not set(ids) <= set(mine):
            yield f"endpoint {name} has {ids}, but served runs deployed {mine}"
        if mine and endpoint.get("trafficSplit") and endpoint["trafficSplit"].get(mine[-1]) != 100:
            yield f"endpoint {name} sends {endpoint['trafficSplit']}, the last served run deployed {mine[-1]}"
        if mine and mine[-1] not in ids:
            yield f"endpoint {name} has lost {mine[-1]}, which the last served run deployed"
    if servers > deployed:
        yield f"{servers} model servers run for {deployed} deployed models"


def _job(job_id: str, labels: Mapping[str, str], state: str) -> Job:
    return Job(job_id, labels["baton-run"], labels["baton-stage"], int(labels["baton-attempt"]), state)


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""  # it has ended
