"""Bugs put into the real code on purpose, each the kind that a careful reader could let through.

They prove that the simulator bites: every one of them must be caught within a number of histories.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from tests.simulation.faults import Kind
from tests.simulation.planted_rollouts import (
    DeploysWithTraffic,
    EverybodysTurn,
    ForgetsLateTraffic,
    ForgetsTheWayBack,
    NothingIsTakenBack,
    TrafficWithoutEtag,
)
from tests.simulation.scenario import Scenario, draw, draw_crowded
from tests.simulation.storage import WorkerObjects
from tests.simulation.worker import Make
from workers.dataflow import Dataflow
from workers.engine import Engine
from workers.errors import Conflict, TransientError
from workers.intake import Intake
from workers.launching import Launches
from workers.ledger import Entry, Ledger
from workers.loop import Loop
from workers.record import JobRef, StageRecord, State
from workers.stage import Context, Phase
from workers.vertex import CustomJobs, ref
from workers.watching import Watches

PAUSES = (Kind.STALL_BEFORE, Kind.STALL_AFTER, Kind.FREEZE_BEFORE)


@dataclass(frozen=True, slots=True)
class Plant:
    """A planted bug.

    Args:
        make: what makes the workers with the bug in them.
        shapes: in histories of which shape it can show.
        kinds: the faults that it takes, if just these; others only come between.
        is_crowded: whether it takes three rollouts at once to one endpoint.
        within: in how many such histories it must show.
    """

    make: Make
    shapes: tuple[str, ...] = ("preprocess", "train")
    kinds: tuple[Kind, ...] = ()
    is_crowded: bool = False
    within: int = 1500

    def scenarios(self) -> Iterator[Scenario]:
        """Yield histories in which the bug should show."""
        found = (self._scenario(seed) for seed in itertools.count())
        return itertools.islice((s for s in found if s.shape in self.shapes), self.within)

    def _scenario(self, seed: int) -> Scenario:
        if self.is_crowded:
            return replace(draw_crowded(seed), kinds=self.kinds, rate=0.08)
        scenario = draw(seed)
        if not self.kinds:
            return scenario
        return replace(scenario, kinds=self.kinds, rate=0.08, until=700.0, workers=max(2, scenario.workers))


# -- intake --------------------------------------------------------------------------------------------------------------


class AckBeforeClaim(Loop):
    """The message is acknowledged first, then claimed."""

    def on_message(self, message: Any) -> None:
        message.ack()
        super().on_message(message)


class ClaimWithoutMarker(Ledger):
    """The claim leaves no marker."""

    def mark(self, run_id: str, stage: str) -> None:
        return


class DeadLetterDropped(Intake):
    """What cannot be read is acknowledged, and its reason only logged."""

    def _dead_letter(self, message: Any, reason: str) -> None:
        return


class FateUnsaid(Ledger):
    """Nobody writes down what became of a message that claimed nothing."""

    def note_fate(self, *_: Any) -> None:
        return


# -- ledger --------------------------------------------------------------------------------------------------------------


class BlindWrites(WorkerObjects):
    """Compare-and-set without the compare, but for creation."""

    def write(self, name: str, content: bytes, *, if_generation: int) -> int:
        there = self._bucket.contents.get(name)
        if if_generation and there is not None:
            if_generation = there.generation
        return super().write(name, content, if_generation=if_generation)


class LastWriterWins(WorkerObjects):
    """A claim replaces what is there."""

    def write(self, name: str, content: bytes, *, if_generation: int) -> int:
        there = self._bucket.contents.get(name)
        return super().write(name, content, if_generation=0 if there is None else there.generation)


class TombstoneIgnored(Ledger):
    """Nobody looks whether the run was cancelled."""

    def is_cancelled(self, run_id: str) -> bool:
        return False


class HalfACancellation(Ledger):
    """The tombstone is written, but nothing tells the watchers of running jobs."""

    def cancelling(self) -> Any:
        return iter(())


# -- launching -----------------------------------------------------------------------------------------------------------


def engine_with(**changes: Any) -> Callable[..., Engine]:
    """Return a maker of engines some of whose parts' methods are replaced: `launches__name=function(part, …)`."""

    def make(*args: Any, **kwargs: Any) -> Engine:
        engine = Engine(*args, **kwargs)
        for path, function in changes.items():
            part_name, method = path.split("__")
            part = engine if part_name == "engine" else getattr(engine, f"_{part_name}")
            setattr(part, method, lambda *a, f=function, p=part, **k: f(p, *a, **k))
        return engine

    return make


def _never_late(_moves: Any, _record: StageRecord) -> bool:
    return False


def _no_settling(moves: Any, _record: StageRecord) -> datetime:
    settled: datetime = moves.clock() - timedelta(seconds=1)
    return settled


def _create_blindly(launches: Any, entry: Entry, **_options: Any) -> Any:
    moves = launches._moves
    context, phase = moves.context(entry.record), moves.phase(entry.record)
    return launches._write_down(entry, phase, phase.create(context), is_ours=True)


def _retry_at_once(_launches: Any, phase: Phase, context: Context) -> JobRef:
    """Ask again right after a lost answer, without waiting for the lists."""
    try:
        return phase.create(context)
    except TransientError as fault:
        raise TransientError(str(fault), retry_after_s=0.5) from fault


def _launch_without_intent(engine: Any, entry: Entry) -> Any:
    """Create the job first, then write that it was to be launched."""
    record = entry.record
    if record.state is State.CLAIMED:
        first = record.model_copy(update={"attempt": 1})
        phase = engine._moves.phase(first)
        context = engine._moves.context(first)
        job = phase.find(context) or phase.create(context)
        launching = engine._moves.move(entry, State.LAUNCHING, attempt=1)
        return engine._moves.move(launching, State.RUNNING, job=job)
    return Engine._step(engine, entry)


def _claim_alone(_engine: Any, record: StageRecord) -> StageRecord:
    return record


def _wake_at_any_time(launches: Any, entry: Entry) -> Any:
    """Whatever wakes a launch whose answer was lost makes it ask again."""
    launches._unclear.clear()
    return Launches.launch(launches, entry)


def _keep_what_is_late(_launches: Any, _before: StageRecord, _phase: Phase, _job: JobRef) -> None:
    return


# -- providers -----------------------------------------------------------------------------------------------------------


class NoLook(CustomJobs):
    """Jobs are created without a look whether they are there."""

    def find(self, labels: Mapping[str, str], location: str) -> JobRef | None:
        return None


class AnyAttempt(CustomJobs):
    """The job of any attempt of the stage is taken for this one's."""

    def find(self, labels: Mapping[str, str], location: str) -> JobRef | None:
        return super().find({k: v for k, v in labels.items() if k != "baton-attempt"}, location)


class AnyRun(Dataflow):
    """A job of another run is adopted when the list has one."""

    def _named(self, name: str, labels: Mapping[str, str], location: str) -> list[dict[str, Any]]:
        request = self._jobs.list(projectId=self._project, location=location, name="", filter="ALL")
        return list(self._rest.pages(request, self._jobs.list_next, "jobs"))


class TwinsStay(CustomJobs):
    """After creating nobody looks whether there are two."""

    def create(self, body: Mapping[str, Any], location: str, _is_alone: Any = None) -> JobRef:
        jobs = self._vertex.locations(location).customJobs()
        request = jobs.create(parent=self._vertex.parent(location), body=body)
        return ref(self._vertex.rest(location).send(request), location)


# -- watching and ending -------------------------------------------------------------------------------------------------


def _vanished_at_once(_watches: Any, _job: JobRef, _asked_at: datetime) -> bool:
    return False


def _old_answers_believed(watches: Any, job: JobRef, _asked_at: datetime) -> bool:
    """How long a job is missing is counted from when the answers are looked at, not from when they were asked for."""
    return Watches._may_be_late(watches, job, watches._moves.clock())


def _give_up_beside_it(watches: Watches, entry: Entry, job: JobRef, why: str) -> Any:
    """The next attempt begins while the job of this one is still stopping."""
    from workers.record import Failure

    return watches._ends.attempt_failed(entry, Failure(reason="deadline", message=why, mend="wait"), retry=True)


def _publish_after_the_record(ends: Any, entry: Entry) -> Any:
    """The record says published before it is."""
    from workers.ending import Ends

    published = ends._moves.move(entry, State.PUBLISHED)
    with contextlib.suppress(Conflict):
        Ends.publish(ends, Entry(entry.record, published.generation))
    return published


def _unmark_before_the_publish(ends: Any, entry: Entry) -> Any:
    from workers.ending import Ends

    ends._moves.ledger.unmark(entry.record.run_id, entry.record.stage)
    return Ends.publish(ends, entry)


def _leave_the_marker(_ends: Any, entry: Entry) -> Any:
    from workers.steps import Done

    return Done(entry.record)


class SweepsNothing(Loop):
    """Nobody takes up what a dead worker left."""

    def _sweep(self) -> None:
        return


PLANTS: dict[str, Plant] = {
    "ack before the claim": Plant(Make(loop=AckBeforeClaim)),
    "claim without marker": Plant(Make(ledger=ClaimWithoutMarker)),
    "dead letter dropped": Plant(Make(intake=DeadLetterDropped)),
    "fate unsaid": Plant(Make(ledger=FateUnsaid)),
    "compare-and-set without generation": Plant(Make(objects=BlindWrites)),
    "claim replaces": Plant(Make(objects=LastWriterWins)),
    "tombstone ignored": Plant(Make(ledger=TombstoneIgnored)),
    "half a cancellation": Plant(Make(ledger=HalfACancellation)),
    "no fencing": Plant(Make(engine=engine_with(moves__is_late=_never_late)), ("train",), PAUSES),
    "takeover without settling": Plant(Make(engine=engine_with(moves__settled=_no_settling))),
    "create without look-up": Plant(Make(engine=engine_with(launches___start_job=_create_blindly)), ("train",)),
    "lost answer asked again at once": Plant(Make(engine=engine_with(launches___create=_retry_at_once)), ("train",)),
    "launch without intent": Plant(
        Make(engine=engine_with(engine___step=_launch_without_intent, engine__intend=_claim_alone)), ("train",)
    ),
    "no look before creating": Plant(Make(custom_jobs=NoLook), ("train",)),
    "woken too early": Plant(Make(engine=engine_with(launches__launch=_wake_at_any_time)), ("train",)),
    "job of another attempt adopted": Plant(Make(custom_jobs=AnyAttempt), ("train",)),
    "job of another run adopted": Plant(Make(dataflow=AnyRun), ("preprocess",)),
    "vanished at the first look": Plant(Make(engine=engine_with(watches___may_be_late=_vanished_at_once))),
    "old answers believed": Plant(
        Make(engine=engine_with(watches___may_be_late=_old_answers_believed)), ("train",), (Kind.STALL_AFTER,)
    ),
    "next attempt beside the last": Plant(Make(engine=engine_with(watches___watch_it_stop=_give_up_beside_it))),
    "published before the publish": Plant(Make(engine=engine_with(ends__publish=_publish_after_the_record))),
    "unmarked before the publish": Plant(Make(engine=engine_with(ends__publish=_unmark_before_the_publish))),
    "marker left behind": Plant(Make(engine=engine_with(ends__close=_leave_the_marker))),
    "no sweep": Plant(Make(loop=SweepsNothing)),
    "everybody's turn": Plant(Make(deploy=EverybodysTurn), ("deploy",)),
    "traffic without etag": Plant(Make(deploy=TrafficWithoutEtag), ("deploy",), (Kind.STALL_BEFORE,), is_crowded=True),
    "late traffic forgotten": Plant(
        Make(deploy=ForgetsLateTraffic), ("deploy",), (Kind.STALL_BEFORE,), is_crowded=True
    ),
    "nothing is taken back": Plant(Make(deploy=NothingIsTakenBack), ("deploy",)),
    "way back forgotten": Plant(Make(deploy=ForgetsTheWayBack), ("deploy",)),
    "traffic with the deployment": Plant(Make(deploy=DeploysWithTraffic), ("deploy",)),
    "twins stay": Plant(
        Make(
            custom_jobs=TwinsStay, engine=engine_with(launches___disown=_keep_what_is_late, strays__stop=lambda *_: [])
        ),
        ("train",),
        (*PAUSES, Kind.CRASH_AFTER),
    ),
}
