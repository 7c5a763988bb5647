"""Retries and replays: where they begin, what they are called, and what is refused."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from baton.children import child_id
from baton.errors import BatonError, NotKnown, Refused
from baton.recorded import events_of
from baton.replaying import Export, compare, config_differences, export_of, plan_replay, read_export
from baton.retrying import plan_retry, retries_of, retry_id
from baton.runs import Run, RunState, run_of
from messages.events import is_run_id
from workers.record import Failure, Outcome, StageRecord, State, Trigger

NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)
CONFIG = {
    "name": "p",
    "preprocess": {"template": "t"},
    "train": {"image": "i"},
    "deploy": {"image": "s", "endpoint": "e"},
}
TYPES = {
    "preprocess": ("baton.data.ready.v1", {"pipeline": "p", "source": "gs://b/x", "params": {"limit": 5}}),
    "train": ("baton.preprocess.done.v1", {"pipeline": "p", "dataset_uri": "gs://b/d"}),
    "deploy": ("baton.train.done.v1", {"pipeline": "p", "model_uri": "gs://b/m", "metrics": {"rmse_lb": 1.5}}),
    "": ("baton.deploy.done.v1", {"pipeline": "p", "endpoint": "e", "model": "m", "deployed_model_id": "1"}),
}
FAILED = (
    "baton.stage.failed.v1",
    {"pipeline": "p", "stage": "s", "attempts": 1, "reason": "r", "message": "m", "mend": "d"},
)
ORDER = ("preprocess", "train", "deploy", "")


def record(stage: str, outcome: Outcome | None = Outcome.SUCCEEDED, run_id: str = "r1", **changes: Any) -> StageRecord:
    """A stage of a run as the ledger has it once it has ended so; None while it runs."""
    index = ORDER.index(stage)
    kind, body = TYPES[stage]
    told = TYPES[ORDER[index + 1]] if outcome is Outcome.SUCCEEDED else FAILED
    trigger = Trigger(id=f"{run_id}.x", type=kind, source="//t", time=NOW + timedelta(hours=index), body=body)
    found = StageRecord(
        run_id=run_id,
        stage=stage,
        pipeline="p",
        state=State.CLAIMED,
        trigger=trigger.model_copy(update=changes),
        config=CONFIG,
    ).moved(State.RUNNING, now=trigger.time, by="w")
    if outcome is None:
        return found
    failure = None if outcome is Outcome.SUCCEEDED else Failure(reason="job-failed", message="m", mend="d")
    result = {"type": told[0], "body": told[1]}
    found = found.moved(State.FINISHED, now=trigger.time, by="w", outcome=outcome, result=result, failure=failure)
    return found.moved(State.PUBLISHED, now=trigger.time, by="w")


def known(*runs: Run) -> Callable[[str], Run]:
    """A ledger that knows just these."""
    by_id = {run.id: run for run in runs}
    return lambda run_id: by_id.get(run_id, run_of(run_id, []))


def failed_in(stage: str, run_id: str = "r1") -> list[StageRecord]:
    before = ORDER[: ORDER.index(stage)]
    return [*(record(name, run_id=run_id) for name in before), record(stage, Outcome.FAILED, run_id)]


# -- retry ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["preprocess", "train", "deploy"])
def test_a_retry_begins_at_the_stage_that_failed(stage: str) -> None:
    """With that stage's own recorded event, parameters and all."""
    records = failed_in(stage)
    retry = plan_retry(run_of("r1", records), records, known())
    assert (retry.run_id, retry.parent, retry.event.stage) == ("r1-r2", "r1", stage)
    assert retry.event.body == TYPES[stage][1]
    assert retry.event.type == retry.event.event.TYPE


def test_a_retry_begins_where_it_is_told_to() -> None:
    """From any stage that has a recorded event, also of a run that succeeded."""
    records = failed_in("deploy")
    assert plan_retry(run_of("r1", records), records, known(), "preprocess").event.stage == "preprocess"
    served = [record(stage) for stage in ORDER[:3]]
    assert plan_retry(run_of("r1", served), served, known(), "train").event.stage == "train"
    with pytest.raises(Refused, match="succeeded"):
        plan_retry(run_of("r1", served), served, known())
    early = failed_in("preprocess")
    with pytest.raises(NotKnown, match="'train'") as told:
        plan_retry(run_of("r1", early), early, known(), "train")
    assert "preprocess" in told.value.mend


def test_a_run_cancelled_between_two_stages_goes_on_with_the_event_that_was_told() -> None:
    """The next stage never claimed it: the stage before has recorded what it told."""
    records = [record("preprocess")]
    run = run_of("r1", records, is_cancelled=True)
    assert run.state is RunState.CANCELLED
    retry = plan_retry(run, records, known())
    assert (retry.event.stage, retry.event.body) == ("train", TYPES["train"][1])
    closed = StageRecord(
        run_id="r1",
        stage="train",
        pipeline="",
        state=State.CLAIMED,
        trigger=Trigger(id="", type="", source="", time=NOW, body={}),
        config={},
        outcome=Outcome.CANCELLED,
    ).moved(State.PUBLISHED, now=NOW + timedelta(hours=2), by="w")
    assert events_of([*records, closed])["train"].body == TYPES["train"][1]


def test_what_goes_on_is_not_tried_again() -> None:
    """Neither the run itself nor its retry; two at once would race for the endpoint."""
    going_on = [record("preprocess", None)]
    with pytest.raises(Refused, match="goes on"):
        plan_retry(run_of("r1", going_on), going_on, known())
    records = failed_in("train")
    retried = run_of("r1-r2", [record("train", None, "r1-r2", parent_run="r1")])
    with pytest.raises(BatonError, match="being tried again as r1-r2"):
        plan_retry(run_of("r1", records), records, known(retried))
    with pytest.raises(NotKnown):
        plan_retry(run_of("r9", []), [], known())


def test_pressing_the_key_twice_is_one_retry() -> None:
    """Until the first one is claimed the second has the same name, so it is the same event."""
    records = failed_in("train")
    run = run_of("r1", records)
    assert plan_retry(run, records, known()) == plan_retry(run, records, known())


def test_retries_are_counted_in_one_row() -> None:
    """Of the run and of its retries alike; a run whose own name ends in -r7 is no retry."""
    second = run_of("r1-r2", [record("train", Outcome.FAILED, "r1-r2", parent_run="r1")])
    records = failed_in("train")
    look = known(second)
    assert plan_retry(run_of("r1", records), records, look).run_id == "r1-r3"
    again = [record("train", Outcome.FAILED, "r1-r2", parent_run="r1")]
    assert plan_retry(second, again, look).run_id == "r1-r3"
    assert [run.id for run in retries_of(run_of("r1", records), look)] == ["r1-r2"]
    assert retry_id(run_of("batch-r7", failed_in("train", "batch-r7")), 2) == "batch-r7-r2"


def test_a_run_that_a_person_named_like_a_retry_is_none() -> None:
    """It keeps nobody from trying again; its name is taken all the same."""
    records = failed_in("train")
    look = known(run_of("r1-r2", [record("train", None, "r1-r2")]))
    assert plan_retry(run_of("r1", records), records, look).run_id == "r1-r3"
    assert retries_of(run_of("r1", records), look) == []


@pytest.mark.parametrize("length", [2, 60, 63])
def test_a_retrys_retry_is_known_however_long_the_name(length: int) -> None:
    """A long name is shortened, so the row is not a plain prefix of it."""
    first = run_of("a" * length, failed_in("train", "a" * length))
    second_id = retry_id(first, 2)
    second = run_of(second_id, [record("train", Outcome.FAILED, second_id, parent_run=first.id)])
    third_id = retry_id(second, 3)
    third = run_of(third_id, [record("train", None, third_id, parent_run=second.id)])
    look = known(first, second, third)
    assert [run.id for run in retries_of(first, look)] == [second_id, third_id]
    assert [run.id for run in retries_of(second, look)] == [second_id, third_id]


def test_a_run_that_was_cancelled_before_it_began_is_published_anew() -> None:
    """There is no stage that a retry could begin from."""
    with pytest.raises(NotKnown, match="cancelled before a worker claimed it") as told:
        plan_retry(run_of("r1", [], is_cancelled=True), [], known())
    assert "baton publish" in told.value.mend


@pytest.mark.parametrize("length", [1, 59, 60, 61, 63])
def test_a_childs_name_is_a_run_id_too(length: int) -> None:
    """However long the parent's is; and long ones of the same beginning stay apart."""
    name = child_id("a" * length, "r12")
    assert is_run_id(name)
    assert name.endswith("-r12")
    assert child_id("a" * 62 + "b", "r2") != child_id("a" * 62 + "c", "r2")


# -- replay -----------------------------------------------------------------------------------------------------------


def exported(stage: str = "deploy") -> Export:
    records = failed_in(stage)
    return export_of(run_of("r1", records), records, "gs://b", NOW)


def test_an_export_reads_back_as_what_it_was(tmp_path: Any) -> None:
    """From a file, on another machine."""
    path = tmp_path / "run.json"
    path.write_text(exported().model_dump_json(exclude_none=True))
    assert read_export(path) == exported()


@pytest.mark.parametrize("text", ["junk", "{}", '{"format": 1}'])
def test_a_file_that_is_no_export_is_refused(tmp_path: Any, text: str) -> None:
    """With how to write one."""
    path = tmp_path / "run.json"
    path.write_text(text)
    for file in (path, tmp_path / "missing.json"):
        with pytest.raises(Refused) as told:
            read_export(file)
        assert "--export" in told.value.mend


def test_a_replay_sends_the_first_event_under_a_new_name() -> None:
    """Or another stage's; with another source or parameters where they are given."""
    replay = plan_replay(exported(), known())
    assert (replay.run_id, replay.parent) == ("r1-replay", "r1")
    assert replay.event.TYPE == "baton.data.ready.v1"
    changed = plan_replay(exported(), known(), "train", "gs://here/d", {"limit": 9})
    assert getattr(changed.event, "dataset_uri", "") == "gs://here/d"
    assert changed.event.params.limit == 9
    once = run_of("r1-replay", failed_in("preprocess", "r1-replay"))
    assert plan_replay(exported(), known(once)).run_id == "r1-replay2"
    with pytest.raises(Refused, match="'train'"):
        plan_replay(exported("preprocess"), known(), "train")
    with pytest.raises(Refused, match="source"):
        plan_replay(exported(), known(), source="http://x")


def test_a_run_that_was_never_claimed_cannot_be_exported() -> None:
    """There is nothing to replay."""
    with pytest.raises(NotKnown):
        export_of(run_of("r1", []), [], "gs://b")


def test_a_replay_is_compared_stage_by_stage() -> None:
    """Outcomes, and what differs in the results."""
    now = [record("preprocess", run_id="n"), record("train", Outcome.FAILED, "n")]
    first, second = compare(exported(), run_of("n", now))
    assert (first.then, first.now, first.differences) == ("succeeded", "succeeded", [])
    assert (second.then, second.now) == ("succeeded", "failed (job-failed)")
    assert second.differences == [("rmse_lb", "1.5", "")]


def test_a_stage_that_the_recorded_run_never_began_is_a_difference() -> None:
    """A run that was cancelled between two stages: the replay goes on, and does not end as it did."""
    export = export_of(run_of("r1", [record("preprocess")], is_cancelled=True), [record("preprocess")], "gs://b", NOW)
    replayed = run_of("r1-replay", [record("preprocess"), record("train", Outcome.FAILED)])
    found = [(stage.stage, stage.then, stage.now) for stage in compare(export, replayed)]
    assert found == [("preprocess", "succeeded", "succeeded"), ("train", "not begun", "failed (job-failed)")]


def test_differences_of_the_pipeline_are_told() -> None:
    """Key by key, inside of its tables."""
    then = {"train": {"image": "a", "attempts": 2}, "deploy": {"x": 1}}
    now = {"train": {"image": "b", "attempts": 2}, "deploy": {"x": 1}, "new": True}
    assert list(config_differences(then, now)) == [("new", "", "true"), ("train.image", "a", "b")]
