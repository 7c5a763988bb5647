"""Runs and their times, as the ledger's records tell them."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from baton.runs import Run, RunState, run_of
from baton.timeline import stage_times
from workers.record import Failure, JobRef, Outcome, StageRecord, State, Trigger

START = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
CONFIG: dict[str, Any] = {"preprocess": {"template": "t"}, "train": {"image": "i"}, "deploy": {"image": "i"}}
EVENTS = {"preprocess": "source", "train": "dataset_uri", "deploy": "model_uri"}


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def claimed(stage: str, published_s: float, claimed_s: float, config: dict[str, Any] = CONFIG) -> StageRecord:
    trigger = Trigger(id="e", type="t", source="s", time=at(published_s), body={EVENTS[stage]: f"gs://b/{stage}"})
    record = StageRecord(
        run_id="run-1", stage=stage, pipeline="babyweight", state=State.CLAIMED, trigger=trigger, config=config
    )
    return record.moved(State.CLAIMED, now=at(claimed_s), by="w")


def running(record: StageRecord, launching_s: float, running_s: float) -> StageRecord:
    job = JobRef(id=f"job-{record.stage}", name="n", kind="dataflow", state="JOB_STATE_RUNNING")
    record = record.moved(State.LAUNCHING, now=at(launching_s), by="w", attempt=record.attempt + 1)
    return record.moved(State.RUNNING, now=at(running_s), by="w", job=job)


def finished(record: StageRecord, finished_s: float, published_s: float, **body: Any) -> StageRecord:
    record = record.moved(
        State.FINISHED, now=at(finished_s), by="w", outcome=Outcome.SUCCEEDED, result={"type": "t", "body": body}
    )
    return record.moved(State.PUBLISHED, now=at(published_s), by="w")


def failed(record: StageRecord, finished_s: float, outcome: Outcome = Outcome.FAILED) -> StageRecord:
    failure = Failure(reason="job-failed", message="it broke", mend="mend it", log_tail=("last words",))
    return record.moved(State.FINISHED, now=at(finished_s), by="w", outcome=outcome, failure=failure)


PREPROCESSED = finished(running(claimed("preprocess", 0, 1), 1.5, 2), 6, 6.5, train_examples=3)
TRAINED = finished(running(claimed("train", 6.5, 7), 7, 8), 18, 18.5, metrics={"rmse_lb": 1.03})
DEPLOYED = finished(
    running(claimed("deploy", 18.5, 19), 19, 20), 22, 23, endpoint="projects/p/endpoints/e", metrics={"rmse_lb": 1.03}
)


def states(run: Run) -> list[tuple[str, str]]:
    return [(stage.name, stage.outcome or stage.state) for stage in run.stages]


def test_a_run_without_records_waits_to_be_claimed() -> None:
    """Published is not yet claimed."""
    run = run_of("run-1", [])
    assert (run.state, run.started) == (RunState.WAITING, None)
    assert not run.state.is_final


def test_stages_to_come_follow_from_the_pipeline() -> None:
    """While preprocessing runs, training and rollout are shown as waiting."""
    run = run_of("run-1", [running(claimed("preprocess", 0, 1), 1, 2)])
    assert states(run) == [("preprocess", "running"), ("train", "waiting"), ("deploy", "waiting")]
    assert run.state is RunState.RUNNING


def test_a_run_between_two_stages_goes_on() -> None:
    """Preprocessing published its event, and no worker has claimed training yet."""
    assert run_of("run-1", [PREPROCESSED]).state is RunState.RUNNING


def test_a_run_that_began_with_training_has_no_preprocessing() -> None:
    """Any stage can be the start."""
    run = run_of("run-1", [TRAINED, DEPLOYED])
    assert states(run) == [("train", "succeeded"), ("deploy", "succeeded")]
    assert run.state is RunState.SUCCEEDED


def test_a_pipeline_without_rollout_ends_with_its_last_stage() -> None:
    """What the pipeline lacks is not waited for."""
    config = {"preprocess": {"template": "t"}, "train": {"image": "i"}}
    record = finished(running(claimed("train", 0, 1, config), 1, 2), 3, 4)
    assert run_of("run-1", [record]).state is RunState.SUCCEEDED


def test_a_succeeded_run_tells_metrics_endpoint_and_duration() -> None:
    """From the event that began it to the end of its last stage."""
    run = run_of("run-1", [DEPLOYED, PREPROCESSED, TRAINED])
    assert [stage.name for stage in run.stages] == ["preprocess", "train", "deploy"]
    assert run.metrics == {"rmse_lb": 1.03}
    assert run.endpoint == "projects/p/endpoints/e"
    assert run.elapsed_s(at(999)) == 22.0


def test_a_failed_stage_fails_the_run_and_says_why() -> None:
    """Reason, message, mend and the log's end come from the ledger."""
    run = run_of("run-1", [PREPROCESSED, failed(running(claimed("train", 6, 7), 7, 8), 9)])
    assert run.state is RunState.FAILED
    assert run.failure == {
        "stage": "train",
        "reason": "job-failed",
        "message": "it broke",
        "mend": "mend it",
        "log_tail": ["last words"],
    }


def test_an_earlier_attempts_failure_does_not_fail_a_run_that_goes_on() -> None:
    """A retry carries the failure of the attempt before; the run is still running."""
    again = running(claimed("train", 0, 1), 1, 2).moved(
        State.LAUNCHING, now=at(3), by="w", attempt=2, failure=Failure(reason="r", message="m", mend="x")
    )
    run = run_of("run-1", [again])
    assert (run.state, run.failure) == (RunState.RUNNING, None)


@pytest.mark.parametrize(
    ("records", "state"),
    [
        ([], RunState.CANCELLED),
        ([PREPROCESSED], RunState.CANCELLED),
        ([running(claimed("preprocess", 0, 1), 1, 2)], RunState.RUNNING),
        ([failed(claimed("preprocess", 0, 1), 2, Outcome.CANCELLED)], RunState.CANCELLED),
    ],
)
def test_a_cancelled_run_is_over_once_no_stage_runs(records: list[StageRecord], state: RunState) -> None:
    """A stage in hand is first brought to its end."""
    assert run_of("run-1", records, is_cancelled=True).state is state


def test_a_run_as_json_is_plain_and_complete() -> None:
    """What `--json` prints can be read by anything, with times in RFC 3339 and nothing null."""
    body = json.loads(json.dumps(run_of("run-1", [PREPROCESSED, TRAINED]).to_json()))
    assert (body["id"], body["state"], body["started"]) == ("run-1", "running", "2026-11-21T09:00:00+00:00")
    assert [stage["name"] for stage in body["stages"]] == ["preprocess", "train", "deploy"]
    assert body["stages"][0]["history"][0]["state"] == "claimed"
    assert "failure" not in body["stages"][0]


def test_time_is_told_apart_by_what_it_was_spent_on() -> None:
    """Waiting for a worker, launching, running, finishing: they add up to the stage's whole time."""
    (first, second) = stage_times(run_of("run-1", [PREPROCESSED, TRAINED]), at(100))
    assert (first.waiting, first.launching, first.running, first.finishing) == (1.0, 1.0, 4.0, 0.5)
    assert first.total == 6.5
    assert (second.stage, second.running) == ("train", 10.0)


def test_the_time_of_a_running_stage_counts_up_to_now() -> None:
    """What has not ended yet is spent until now."""
    (only,) = stage_times(run_of("run-1", [running(claimed("preprocess", 0, 1), 1, 2)]), at(10))
    assert only.running == 8.0


def test_clocks_that_disagree_give_no_negative_time() -> None:
    """The publisher's clock may be ahead of the worker's."""
    (only,) = stage_times(run_of("run-1", [claimed("preprocess", 5, 1)]), at(1))
    assert only.waiting == 0.0


def test_steps_that_were_left_out_are_counted() -> None:
    """Of an outage of hours a few steps are told, and how many there were."""
    record = claimed("train", 0, 1)
    for number in range(40):
        record = record.moved(State.LAUNCHING, now=at(number + 2), by=f"w{number}", attempt=1)
    (stage,) = (stage for stage in run_of("run-1", [record]).stages if stage.name == "train")
    assert len(stage.history) < 10
    assert len(stage.history) + stage.history[-1].left_out == 41
