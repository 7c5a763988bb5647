"""Tries a run again: the recorded event of a stage, published under the run id that follows.

A retry is a run of its own, `<run>-r2`, `<run>-r3` …, that names its parent: the rule "one job for each stage of a run"
stays without exceptions, both histories stay readable, and pressing the key twice is one retry, because the id of the next
one follows from those that the ledger knows.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from baton.children import child_id, children
from baton.errors import BatonError, NotKnown, Refused
from baton.recorded import RecordedEvent, events_of
from baton.runs import Run, RunState
from workers.record import StageRecord

_RETRY_SUFFIX = re.compile(r"-r[0-9]+$")


@dataclass(frozen=True, slots=True)
class Retry:
    """What is going to be published.

    Args:
        run_id: the new run's.
        parent: the run that it tries again.
        event: the event that begins it.
    """

    run_id: str
    parent: str
    event: RecordedEvent


def plan_retry(
    run: Run, records: Sequence[StageRecord], look: Callable[[str], Run], from_stage: str | None = None
) -> Retry:
    """Decide where to begin and under which id.

    Args:
        look: returns any run; one that nobody has claimed is waiting.
        from_stage: begin there; by default at the stage that did not succeed.

    Raises:
        NotKnown: the run or the stage is not in the ledger.
        Refused: the run goes on, or it needs no retry, or is being tried again already.
    """
    _check_state(run, from_stage)
    events = events_of(records)
    stage = from_stage or _unfinished(run)
    event = events.get(stage)
    if not events:
        mend = "publish it under another id with `baton publish`"
        raise NotKnown(f"run {run.id} was {run.state.value} before a worker claimed it: it has no recorded event", mend)
    if event is None:
        known = ", ".join(events)
        raise NotKnown(f"run {run.id} has no recorded event for {stage!r}", f"retry from one of: {known}")
    return Retry(_next_id(run, look), run.id, event)


def retry_id(run: Run, number: int) -> str:
    """Return the id of the run's retry of this number, from 2; a retry's retry counts on in the first one's row."""
    return child_id(_RETRY_SUFFIX.sub("", run.id) if run.parent else run.id, f"r{number}")


def retries_of(run: Run, look: Callable[[str], Run]) -> list[Run]:
    """Return the retries that the ledger knows of, in their order; of a retry, all those of its row."""
    return [retry for retry in _row(run, look) if _is_retry(retry)]


def _row(run: Run, look: Callable[[str], Run]) -> list[Run]:
    """Return the runs that bear the names of retries: those that are, and those that a person named so."""
    return list(children(lambda number: retry_id(run, number), look, first=2))


def _is_retry(run: Run) -> bool:
    """Tell whether the run's name follows from its parent's; one that a person named so has no parent."""
    number = run.id.rpartition("-")[2]
    return bool(run.parent) and run.id in {
        child_id(base, number) for base in (run.parent, _RETRY_SUFFIX.sub("", run.parent))
    }


def _check_state(run: Run, from_stage: str | None) -> None:
    if run.state is RunState.WAITING:
        raise NotKnown(f"run {run.id!r} is not in the ledger", "see `baton runs`")
    if run.state is RunState.RUNNING:
        raise Refused(f"run {run.id} goes on", f"wait for it, or cancel it first: baton cancel {run.id}")
    if run.state is RunState.SUCCEEDED and from_stage is None:
        raise Refused(
            f"run {run.id} succeeded", f"say from where it is to run again: baton retry {run.id} --from train"
        )


def _unfinished(run: Run) -> str:
    """Return the first stage that did not succeed."""
    return next(stage.name for stage in run.stages if stage.outcome != "succeeded")


def _next_id(run: Run, look: Callable[[str], Run]) -> str:
    known = _row(run, look)
    going_on = next((retry for retry in known if retry.state is RunState.RUNNING and _is_retry(retry)), None)
    if going_on is not None:
        raise BatonError(
            f"run {run.id} is being tried again as {going_on.id}", f"watch it: baton runs watch {going_on.id}"
        )
    return retry_id(run, len(known) + 2)
