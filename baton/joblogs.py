"""Reads the jobs' own log lines from Cloud Logging; the local cloud answers the same API.

A job is found by `resource.labels.job_id`: Dataflow's job id, or the last part of a Vertex AI job's name. A rollout has
no job; what its deployed model's server wrote is found by `labels.deployed_model_id`.
Source: logging v2 discovery document, `entries.list`.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from baton.runs import Run, StageView
from workers.endpoint import deployed_model_id_of
from workers.google_rest import GoogleRest

ROLLOUT = "deploy"
_PAGE_SIZE = 1000


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line that a job wrote."""

    time: datetime
    stage: str
    job_id: str
    severity: str
    text: str
    insert_id: str = ""

    def to_json(self) -> dict[str, str]:
        return {
            "time": self.time.isoformat(),
            "stage": self.stage,
            "job_id": self.job_id,
            "severity": self.severity,
            "text": self.text,
        }


def filters_of(run: Run, stage: StageView) -> list[tuple[str, str]]:
    """Return (job id, filter) of every job that the stage has had, over all attempts, the first first."""
    if stage.name == ROLLOUT:
        ids = [deployed_model_id_of(run.id, attempt) for attempt in range(1, stage.attempt + 1)]
        return [(id_, f'labels.deployed_model_id="{id_}"') for id_ in ids]
    jobs = dict.fromkeys(step.job_id.rsplit("/", 1)[-1] for step in stage.history if step.job_id)
    return [(id_, f'resource.labels.job_id="{id_}"') for id_ in jobs]


def lines_of(logging: GoogleRest, project: str, run: Run, stage: str | None, since: str = "") -> Iterator[LogLine]:
    """Yield the lines of the run's jobs, stage by stage, the oldest first.

    Args:
        stage: only this stage's, or None for all.
        since: RFC 3339; only lines from this time on.
    """
    for view in run.stages:
        if stage in (None, view.name):
            for job_id, filter_text in filters_of(run, view):
                for entry in _entries(logging, project, filter_text, since):
                    yield _line(view.name, job_id, entry)


def _entries(logging: GoogleRest, project: str, filter_text: str, since: str) -> Iterator[dict[str, Any]]:
    body: dict[str, Any] = {
        "resourceNames": [f"projects/{project}"],
        "filter": filter_text + (f' AND timestamp>="{since}"' if since else ""),
        "orderBy": "timestamp asc",
        "pageSize": _PAGE_SIZE,
    }
    while True:
        answer = logging.read(logging.service.entries().list(body=body))
        yield from answer.get("entries", [])
        if not answer.get("nextPageToken"):
            return
        body = {**body, "pageToken": answer["nextPageToken"]}


def _line(stage: str, job_id: str, entry: dict[str, Any]) -> LogLine:
    return LogLine(
        time=datetime.fromisoformat(entry["timestamp"]),
        stage=stage,
        job_id=job_id,
        severity=entry.get("severity", "DEFAULT"),
        text=_text(entry),
        insert_id=entry.get("insertId", ""),
    )


def _text(entry: dict[str, Any]) -> str:
    if "textPayload" in entry:
        return str(entry["textPayload"])
    payload = entry.get("jsonPayload") or entry.get("protoPayload") or {}
    return json.dumps(payload, ensure_ascii=False)
