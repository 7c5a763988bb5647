"""Plays a past run again on the local cloud: its first recorded event, published under a new run id.

Only that one event is sent: the others come again by themselves, from the workers and jobs that are here now. That is the
point: the chain is re-run, not its record. What a replay does not bring back: the data (it is read where it lies now), the
pipeline's TOML and the images (those of here and now, differences are told), attempts, failures and cancellations.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from google.api_core import exceptions as google_errors
from pydantic import BaseModel, ConfigDict, ValidationError

from baton.children import child_id, children
from baton.connections import Connections
from baton.errors import NotKnown, Refused
from baton.recorded import RecordedEvent, events_of
from baton.runs import Run, StageView
from messages import DecodeError, Event
from messages.codec import decode_body
from workers.record import StageRecord

FORMAT = 1
SOURCES = ("source", "dataset_uri", "model_uri")  # where an event says what to read, the first that it has
_NOT_BEGUN = "not begun"
_SHOWN_RESULTS = ("train_examples", "eval_examples", "rejected_rows", "digest", "traffic_percent")


class ExportedStage(BaseModel):
    """What came of a stage then."""

    model_config = ConfigDict(frozen=True)

    name: str
    outcome: str
    attempt: int = 0
    result: dict[str, Any] = {}
    reason: str = ""


class Export(BaseModel):
    """A past run as a file: everything that a replay needs, and what to compare it with.

    Args:
        ledger: where it was recorded, `gs://bucket`.
        config: the pipeline as the run was claimed with.
    """

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    run_id: str
    pipeline: str
    ledger: str
    exported: datetime
    events: dict[str, RecordedEvent]
    stages: tuple[ExportedStage, ...]
    config: dict[str, Any] = {}


def export_of(run: Run, records: list[StageRecord], ledger: str, now: datetime | None = None) -> Export:
    """Return a run as an export.

    Raises:
        NotKnown: the ledger has none of its events.
    """
    events = events_of(records)
    if not events:
        raise NotKnown(
            f"run {run.id} has no recorded event in {ledger}", "it was never claimed: there is nothing to replay"
        )
    return Export(
        run_id=run.id,
        pipeline=run.pipeline,
        ledger=ledger,
        exported=now or datetime.now(UTC),
        events=events,
        stages=tuple(_exported(stage) for stage in run.stages if stage.has_begun),
        config=next((record.config for record in records if record.config), {}),
    )


def read_export(path: Path) -> Export:
    """Read what `baton replay RUN --export FILE` wrote.

    Raises:
        Refused: it cannot be read, or is no such file.
    """
    mend = "write one with `baton replay RUN --export FILE`"
    try:
        return Export.model_validate_json(path.read_bytes())
    except OSError as fault:
        raise Refused(f"{path} cannot be read ({fault})", mend) from fault
    except ValidationError as fault:
        first = fault.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        said = ": ".join(filter(None, (place, first["msg"])))
        raise Refused(f"{path} is no exported run ({said})", mend) from fault


@dataclass(frozen=True, slots=True)
class Replay:
    """What is going to be published.

    Args:
        run_id: the new run's.
        event: the one event that is sent.
    """

    run_id: str
    parent: str
    event: Event


def plan_replay(
    export: Export,
    look: Callable[[str], Run],
    from_stage: str | None = None,
    source: str | None = None,
    params: Mapping[str, Any] | None = None,
) -> Replay:
    """Decide what is sent and under which id.

    Args:
        from_stage: begin there; by default where the recorded run began.
        source: read this in place of what the event names.
        params: set these over the recorded ones.

    Raises:
        Refused: the export has no event for that stage, or the changed one cannot be used.
    """
    stage = from_stage or min(export.events.values(), key=lambda event: event.time).stage
    if stage not in export.events:
        raise Refused(f"run {export.run_id} has no recorded event for {stage!r}", f"it has {', '.join(export.events)}")
    recorded = export.events[stage]
    body = dict(recorded.body)
    if source is not None:
        body[next(name for name in SOURCES if name in body)] = source
    if params:
        body["params"] = {**body.get("params", {}), **params}
    try:
        event = decode_body(recorded.type, json.dumps(body).encode())
    except DecodeError as fault:
        raise Refused(f"{fault.field} = {fault.value!r} cannot be used", fault.mend) from fault
    known = sum(1 for _ in children(lambda number: _replay_id(export, number), look, first=1))
    return Replay(_replay_id(export, known + 1), export.run_id, event)


def require_source(connections: Connections, event: Event) -> None:
    """Refuse an event whose data does not lie in this cloud's buckets; tables and the like are left to the job.

    Raises:
        Refused: nothing lies there; with the mend.
    """
    uri = next((str(getattr(event, name)) for name in SOURCES if getattr(event, name, None)), "")
    if not uri.startswith("gs://"):
        return
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    try:
        found = list(connections.storage.list_blobs(bucket, prefix=name.partition("*")[0], max_results=1))
    except google_errors.NotFound:
        found = []
    if not found:
        mend = f"copy it (`gcloud storage cp -r {uri} .`, then `baton upload`), or name what to read with --source URI"
        raise Refused(f"{uri} does not lie in the local cloud: a replay brings no data along", mend)


def _replay_id(export: Export, number: int) -> str:
    return child_id(export.run_id, "replay" if number == 1 else f"replay{number}")


@dataclass(frozen=True, slots=True)
class Compared:
    """A stage then and now: `differences` holds (what, then, now)."""

    stage: str
    then: str
    now: str
    differences: list[tuple[str, str, str]] = field(default_factory=list)


def compare(export: Export, run: Run) -> Iterator[Compared]:
    """Yield how each stage of the replay came out beside the recorded one, or beside none: a run that was cancelled between
    two stages has no outcome for the second.
    """
    for then in export.stages:
        now = run.stage(then.name)
        if now is None or not now.has_begun:
            continue
        results = [(name, then.result.get(name), now.result.get(name)) for name in _SHOWN_RESULTS]
        metrics = {**dict.fromkeys(then.result.get("metrics", {})), **dict.fromkeys(now.result.get("metrics", {}))}
        for name in metrics:
            results.append((name, then.result.get("metrics", {}).get(name), now.result.get("metrics", {}).get(name)))
        different = [(name, _shown(a), _shown(b)) for name, a, b in results if a != b]
        yield Compared(then.name, _ended(then.outcome, then.reason), _ended(now.outcome, _reason(now)), different)
    recorded = {then.name for then in export.stages}
    for now in run.stages:
        if now.has_begun and now.name not in recorded:
            yield Compared(now.name, _NOT_BEGUN, _ended(now.outcome, _reason(now)))


def config_differences(
    then: Mapping[str, Any], now: Mapping[str, Any], place: str = ""
) -> Iterator[tuple[str, str, str]]:
    """Yield (key, then, now) of what differs between two configurations of a pipeline."""
    for key in sorted({*then, *now}):
        before, after, path = then.get(key), now.get(key), f"{place}{key}"
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from config_differences(before, after, f"{path}.")
        elif before != after:
            yield path, _shown(before), _shown(after)


def _exported(stage: StageView) -> ExportedStage:
    return ExportedStage(
        name=stage.name, outcome=stage.outcome, attempt=stage.attempt, result=stage.result, reason=_reason(stage)
    )


def _reason(stage: StageView) -> str:
    return str(stage.failure["reason"]) if stage.failure and stage.outcome != "succeeded" else ""


def _ended(outcome: str, reason: str) -> str:
    return f"{outcome or 'not ended'} ({reason})" if reason else outcome or "not ended"


def _shown(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
