"""Cloud Logging v2, `entries.list`: the logs of jobs and deployed models, by filter, in order of time, in pages."""

import asyncio
import base64
import binascii
import heapq
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from localcloud.discovery import Discovery
from localcloud.jobs import filters, names
from localcloud.jobs.filters import Group, Node, Restriction
from localcloud.jobs.fleet import SERVER_LOG
from localcloud.jobs.logs import SEVERITIES, Line, LogFile
from localcloud.jobs.names import Clock, invalid, timestamp
from localcloud.jobs.records import Job, Run
from localcloud.jobs.store import Store
from localcloud.rest import Call, Handler

_PAGE = 50
_LARGEST_PAGE = 1000
_SEVERITY_OF_IMPORTANCE = {"JOB_MESSAGE_ERROR": "ERROR", "JOB_MESSAGE_WARNING": "WARNING"}
_ENDS = 1 << 62
_CAMEL = {
    "log_name": "logName", "insert_id": "insertId", "text_payload": "textPayload", "json_payload": "jsonPayload",
    "receive_timestamp": "receiveTimestamp",
}  # fmt: skip

Key = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Source:
    """One log: what all its entries have in common, and how to read it."""

    common: dict[str, Any]
    insert_prefix: str
    log: Path | None
    is_complete: bool
    messages: tuple[dict[str, Any], ...] = ()


class Logging:
    """The handler of the Logging API."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.discovery = Discovery.load("logging", "v2")
        self._store = store
        self._clock = clock

    def handlers(self) -> dict[str, Handler]:
        """What this part answers, by method id."""
        return {"logging.entries.list": self.list_entries}

    async def list_entries(self, call: Call) -> dict[str, Any]:
        """entries.list."""
        body = call.body
        size = body.get("pageSize", _PAGE)
        if size < 0:
            raise invalid(f"page_size {size} must not be negative.")
        size = min(size or _PAGE, _LARGEST_PAGE)
        node = filters.parse(body.get("filter", ""))
        newest_first = _is_newest_first(body.get("orderBy", ""))
        projects = {name.split("/")[1] for name in body["resourceNames"] if name.startswith("projects/")}
        now = self._clock()
        sources = [s for s in self._sources(projects, _only_job(node)) if _may_match(node, s.common) is not False]
        after = _read_token(body.get("pageToken", ""))
        # In a thread: a filter that matches little may have to read every log there is.
        found = await asyncio.to_thread(_read, sources, node, after, newest_first, size + 1, now)
        answer: dict[str, Any] = {"entries": [entry for _, entry in found[:size]]} if found else {}
        if len(found) > size:
            answer["nextPageToken"] = _token(found[size - 1][0])
        return answer

    def _sources(self, projects: set[str], only_job: str | None) -> Iterator[Source]:
        for kind, make in (("dataflow", _dataflow_sources), ("custom", _custom_sources)):
            for document in self._store.documents(kind):
                if document["project"] in projects and only_job in (None, document["job_id"]):
                    job = Job.of(document)
                    run = self._store.get("run", job.run_id)
                    yield from make(job, Run.of(run) if run else None)
        for document in self._store.documents(SERVER_LOG):
            if names.project_of(document["key"]) in projects:
                yield _server_source(document)


def _dataflow_sources(job: Job, run: Run | None) -> Iterator[Source]:
    labels = {"project_id": job.project, "region": job.location, "job_id": job.job_id, "job_name": job.name}
    resource = {"type": "dataflow_step", "labels": labels | {"step_id": ""}}
    log_name = f"projects/{job.project}/logs/dataflow.googleapis.com%2F"
    yield Source(
        {"logName": log_name + "worker", "resource": resource},
        f"{job.job_id}.w",
        Path(run.log) if run else None,
        not job.is_active,
    )
    yield Source(
        {"logName": log_name + "job-message", "resource": resource}, f"{job.job_id}.m", None, True, tuple(job.messages)
    )


def _custom_sources(job: Job, run: Run | None) -> Iterator[Source]:
    labels = {"project_id": job.project, "job_id": job.job_id, "task_name": "workerpool0-0"}
    common = {
        "logName": f"projects/{job.project}/logs/workerpool0-0",
        "resource": {"type": "ml_job", "labels": labels},
        "labels": {"ml.googleapis.com/job_id/log_area": "root"},
    }
    yield Source(common, f"{job.job_id}.w", Path(run.log) if run else None, not job.is_active)
    yield Source(
        common | {"logName": f"projects/{job.project}/logs/ml.googleapis.com%2F{job.job_id}"},
        f"{job.job_id}.m",
        None,
        True,
        tuple(job.messages),
    )


def _server_source(document: Mapping[str, Any]) -> Source:
    parts = document["key"].split("/")
    labels = {"resource_container": parts[1], "location": parts[3], "endpoint_id": parts[5]}
    common = {
        "logName": f"projects/{parts[1]}/logs/aiplatform.googleapis.com%2Fprediction_container",
        "resource": {"type": "aiplatform.googleapis.com/Endpoint", "labels": labels},
        "labels": {"deployed_model_id": parts[7]},
    }
    return Source(common, f"{parts[5]}-{parts[7]}.w", Path(document["log"]), False)


def _read(
    sources: list[Source], node: Node | None, after: Key | None, newest_first: bool, count: int, now_us: int
) -> list[tuple[Key, dict[str, Any]]]:
    for source in sources:
        if source.log is not None and not source.is_complete:
            LogFile(source.log).mark(now_us)
    return list(islice(_merged(sources, node, after, newest_first), count))


def _merged(
    sources: Iterable[Source], node: Node | None, after: Key | None, newest_first: bool
) -> Iterator[tuple[Key, dict[str, Any]]]:
    from_us, to_us = _time_range(node)
    if after is not None:
        from_us, to_us = (from_us, min(to_us, after[0])) if newest_first else (max(from_us, after[0]), to_us)
    streams = [_entries(source, node, from_us, to_us, newest_first) for source in sources]
    for key, entry in heapq.merge(*streams, key=lambda pair: pair[0], reverse=newest_first):
        if after is None or (key < after if newest_first else key > after):
            yield key, entry


def _entries(
    source: Source, node: Node | None, from_us: int, to_us: int, newest_first: bool
) -> Iterator[tuple[Key, dict[str, Any]]]:
    lines = _lines(source, from_us, to_us, newest_first)
    for line in lines:
        key = (line.us, f"{source.insert_prefix}{line.offset:015d}")
        entry = _entry(source, line, key)
        if filters.matches(node, lambda restriction, entry=entry: _test(restriction, entry)):  # type: ignore[misc]
            yield key, entry


def _lines(source: Source, from_us: int, to_us: int, newest_first: bool) -> Iterator[Line]:
    if source.log is not None:
        yield from LogFile(source.log).lines(
            from_us=from_us, to_us=to_us, newest_first=newest_first, is_complete=source.is_complete
        )
    numbered = list(enumerate(source.messages))
    for number, message in reversed(numbered) if newest_first else numbered:
        if from_us <= message["us"] <= to_us:
            severity = _SEVERITY_OF_IMPORTANCE.get(message["importance"], "INFO")
            yield Line(number, message["us"], severity, message["text"], None)


def _entry(source: Source, line: Line, key: Key) -> dict[str, Any]:
    entry = {
        **source.common,
        "timestamp": timestamp(line.us),
        "receiveTimestamp": timestamp(line.us),
        "severity": line.severity,
        "insertId": key[1],
    }
    if line.fields is None:
        entry["textPayload"] = line.text
    else:
        entry["jsonPayload"] = line.fields
    return entry


def _may_match(node: Node | None, common: Mapping[str, Any]) -> bool | None:
    """Whether entries of a log can match, judged by what they have in common; None when that does not decide it."""
    if node is None:
        return True
    if isinstance(node, Restriction):
        known = node.path and node.path[0] in ("logName", "resource", "log_name")
        return _test(node, common) if known else None
    answers = [_may_match(part, common) for part in node.parts]
    if node.op == "NOT":
        return None if answers[0] is None else not answers[0]
    decisive = node.op == "OR"  # one True decides an OR, one False an AND
    if decisive in answers:
        return decisive
    return None if None in answers else not decisive


def _test(restriction: Restriction, entry: Mapping[str, Any]) -> bool:
    """Test one comparison of the Logging query language; texts compare without regard to case, a missing field fails."""
    if not restriction.op:  # a bare word: anywhere in the entry
        return restriction.value.casefold() in json.dumps(entry, ensure_ascii=False).casefold()
    value: Any = entry
    for step in restriction.path:
        value = value.get(_CAMEL.get(step, step)) if isinstance(value, Mapping) else None
    if value is None:
        return restriction.op in ("!=", "!~")
    return _compare(restriction, value)


def _compare(restriction: Restriction, value: Any) -> bool:
    op, wanted = restriction.op, restriction.value
    if op == ":":
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return wanted == "*" or wanted.casefold() in text.casefold()
    if op in ("=~", "!~"):
        return (_pattern(wanted).search(str(value)) is not None) is (op == "=~")
    left, right = _ordered_pair(restriction.path[0], value, wanted)
    try:
        return filters.ordered(left, op, right)
    except TypeError:
        return False


def _ordered_pair(field: str, value: Any, wanted: str) -> tuple[Any, Any]:
    if field in ("timestamp", "receiveTimestamp", "receive_timestamp"):
        return filters.moment(str(value)), filters.moment(wanted)
    if field == "severity":
        if wanted.upper() not in SEVERITIES:
            raise invalid(f"Invalid filter: severity {wanted!r} is none of {', '.join(SEVERITIES)}.")
        return SEVERITIES.index(value), SEVERITIES.index(wanted.upper())
    if isinstance(value, bool):
        return value, wanted.casefold() == "true"
    if isinstance(value, int | float):
        try:
            return value, float(wanted)
        except ValueError:
            return str(value), wanted
    return str(value).casefold(), wanted.casefold()


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise invalid(f"Invalid filter: {text!r} is no regular expression: {error}.") from error


def _time_range(node: Node | None) -> tuple[int, int]:
    """The range of times that the filter leaves."""
    low, high = 0, _ENDS
    for part in _demands(node):
        if part.path == ("timestamp",):
            moment = filters.moment(part.value)
            low = max(low, moment) if part.op in (">", ">=", "=") else low
            high = min(high, moment) if part.op in ("<", "<=", "=") else high
    return low, high


def _only_job(node: Node | None) -> str | None:
    """The one job that the filter asks for; None when it may be any."""
    for part in _demands(node):
        if part.path == ("resource", "labels", "job_id") and part.op == "=":
            return part.value
    return None


def _demands(node: Node | None) -> list[Restriction]:
    """What must hold in any case: the restrictions of the top-level AND."""
    parts = node.parts if isinstance(node, Group) and node.op == "AND" else (node,)
    return [part for part in parts if isinstance(part, Restriction)]


def _is_newest_first(order_by: str) -> bool:
    words = order_by.split()
    if words in ([], ["timestamp"], ["timestamp", "asc"]):
        return False
    if words == ["timestamp", "desc"]:
        return True
    raise invalid(f'order_by {order_by!r} is not supported; use "timestamp asc" or "timestamp desc".')


def _token(key: Key) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode()


def _read_token(token: str) -> Key | None:
    if not token:
        return None
    try:
        us, insert_id = json.loads(base64.urlsafe_b64decode(token.encode("ascii")))
        return int(us), str(insert_id)
    except (ValueError, TypeError, binascii.Error) as error:
        raise invalid(f"Invalid page_token {token!r}; use the one from the previous answer.") from error
