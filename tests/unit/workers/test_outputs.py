"""What jobs and servers leave is checked before it enters the ledger: what no event can carry fails the attempt."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from messages import DataReady, Event, PreprocessDone, TrainDone
from messages.codec import encode_body
from tests.simulation.worker import settings
from tests.support.vertex_project import Project
from workers.dataflow import Dataflow
from workers.endpoint import deployed_model_id_of
from workers.errors import BadOutput, TransientError
from workers.pipeline import PipelineSpec
from workers.plain import is_plain
from workers.preprocess import DataflowPhase
from workers.record import JobRef, StageRecord, State, Trigger
from workers.smoke import SmokePhase
from workers.stage import Context, JobState, JobStatus
from workers.train import CustomJobPhase
from workers.vertex import CustomJobs

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SPEC = PipelineSpec.model_validate(
    {
        "name": "p",
        "preprocess": {"template": "t.json"},
        "train": {"image": "trainer"},
        "deploy": {"image": "serving", "endpoint": "served"},
    }
)
JOB = JobRef(id="j1", name="n", kind="k")
HUGE = "1" + "0" * 400
HALF = r'"\ud800"'  # half of a character, as JSON can write it


class Left:
    """`Sources` in which every object has the same content."""

    def __init__(self, content: str) -> None:
        self.content = content.encode()

    def read(self, bucket: str, name: str, generation: int | None = None) -> bytes | None:
        return self.content


class Endpoint:
    """A service whose endpoint gives one answer."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def endpoints_predict(self, endpoint: str, body: dict[str, Any]) -> Any:
        return self.answer


def context(event: Event) -> Context:
    trigger = Trigger(id="e1", type="t", source="s", time=NOW, body={})
    plain = StageRecord(run_id="r1", stage="s", pipeline="p", state=State.CLAIMED, trigger=trigger, config={})
    record = plain.moved(State.RUNNING, now=NOW, by="w", attempt=1)
    return Context(record=record, spec=SPEC, params=event.params, event=event)


def trained(metrics: str) -> dict[str, Any]:
    phase = CustomJobPhase(CustomJobs(Project(object())), Left(metrics), settings())
    return phase.collect(context(PreprocessDone(pipeline="p", dataset_uri="gs://b/d")), JOB)


def prepared(manifest: str) -> dict[str, Any]:
    phase = DataflowPhase(Dataflow(None, "p"), Left(manifest), settings())  # type: ignore[arg-type]
    return phase.collect(context(DataReady(pipeline="p", source="gs://b/x.csv")), JOB)


def smoked(sample: str, answer: Any) -> dict[str, Any]:
    phase = SmokePhase(Project(Endpoint(answer)), settings(), Left(sample))
    there = context(TrainDone(pipeline="p", model_uri="gs://b/m"))
    return phase.collect(there, phase.create(there))


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", HUGE])
def test_a_training_that_diverged_fails_and_says_so(value: str) -> None:
    """No event can carry such a metric: the run would stop at its last step, at every try again."""
    with pytest.raises(
        BadOutput, match=r"the training diverged: rmse = .*metrics\.json; lower the learning rate"
    ) as caught:
        trained(f'{{"mae": 1.5, "rmse": {value}}}')
    assert not caught.value.retry
    assert len(str(caught.value)) < 400


def test_brackets_without_end_are_no_output() -> None:
    """The standard parser stops at some depth with an error of its own."""
    with pytest.raises(BadOutput, match=r"metrics\.json is not JSON"):
        trained("[" * 100_000 + "]" * 100_000)


def test_finite_metrics_are_kept_and_other_fields_left_out() -> None:
    """Texts, flags and tables beside the figures are no metrics."""
    given = trained('{"rmse": 1.5, "steps": 10, "ok": true, "note": "fine", "curve": [NaN]}')
    assert given["metrics"] == {"rmse": 1.5, "steps": 10}


def test_a_metric_needs_a_name_that_can_be_written() -> None:
    """Half a character cannot be."""
    with pytest.raises(BadOutput, match="a metric"):
        trained(f'{{"rmse": 1, {HALF}: 2}}')


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train": '{"rows": Infinity}'}, "lacks a count"),
        ({"train": '{"rows": NaN}'}, "lacks a count"),
        ({"train": '{"rows": -1}'}, "less than nothing"),
        ({"eval": '"none"'}, "lacks a count"),
        ({"digest": "7"}, "no text"),
        ({"digest": '["a"]'}, "no text"),
        ({"digest": HALF}, "no text"),
    ],
)
def test_a_manifest_of_the_wrong_kind_fails_the_attempt(changes: dict[str, str], said: str) -> None:
    """What the next event could not carry is found where the job left it."""
    parts = {"train": '{"rows": 8}', "eval": '{"rows": 2}', "rejects": '{"total": 0}', "digest": '"abc"'}
    assert prepared(_object(parts))["digest"] == "abc"
    with pytest.raises(BadOutput, match=said):
        prepared(_object(parts | changes))


@pytest.mark.parametrize(
    "sample",
    [
        '{"instances": [{"x": 1}], "predictions": [NaN]}',
        '{"instances": [{"x": Infinity}], "predictions": [1.0]}',
        f'{{"instances": [{{"x": 1}}], "predictions": [{HUGE}]}}',
        f'{{"instances": [{{"x": 1}}], "predictions": [{HALF}]}}',
        '{"instances": "a", "predictions": [1.0]}',
        '{"instances": [{"x": 1}], "predictions": {"a": 1.0}}',
        '{"instances": [], "predictions": []}',
        '{"instances": 1, "predictions": 1}',
        '{"instances": [1], "predictions": [' + "[" * 50 + "]" * 50 + "]}",
        "[" * 100_000,
        "[]",
    ],
    ids=lambda sample: sample[:60],
)
def test_a_sample_of_the_wrong_kind_fails_the_rollout(sample: str) -> None:
    """The trainer's rows are read before anything is asked of the endpoint."""
    with pytest.raises(BadOutput, match=r"smoke\.json"):
        smoked(sample, {"predictions": [1.0]})


@pytest.mark.parametrize(
    "predictions", [None, 1.0, "a", {"0": 1.0}, [float("nan")], [float("inf")], [10**400], [None], [[1.0]], []]
)
def test_an_answer_of_the_wrong_kind_fails_the_rollout(predictions: Any) -> None:
    """Whatever the server answers, the rollout ends with a reason."""
    with pytest.raises(BadOutput):
        smoked('{"instances": [{"x": 1}], "predictions": [1.0]}', {"predictions": predictions})


def test_an_answer_that_agrees_passes() -> None:
    """Numbers are close, everything else is the same."""
    wanted = [1.0, ["a", 2], {"p": 0.5}, None, True]
    sample = json.dumps({"instances": [{"x": n} for n in range(5)], "predictions": wanted})
    answer = [1.0000001, ["a", 2.0], {"p": 0.5}, None, True]
    assert smoked(sample, {"predictions": answer}) == {"predictions": answer[:3]}


def test_what_is_plain_can_be_sent() -> None:
    """It goes through an event and comes out the same."""
    value = {"a": [1, 2.5, "ü", None, True, {"b": []}]}
    assert is_plain(value)
    event = DataReady.model_validate({"pipeline": "p", "source": "gs://b/x.csv", "of_its_own": value})
    assert json.loads(encode_body(event))["of_its_own"] == value


def test_a_job_whose_state_cannot_be_learned_is_no_active_one() -> None:
    """Its provider left it out of the answer: nothing is stopped, and there are no last words."""

    class Silent(CustomJobs):
        def statuses(self, jobs: Any) -> dict[str, JobStatus]:
            return {}

    phase = CustomJobPhase(Silent(Project(object())), Left(""), settings())
    assert not phase.is_active(JOB)
    assert phase.log_tail(JOB) == ()
    assert JobState.ACTIVE not in {status.state for status in phase.statuses([JOB]).values()}


def _object(parts: dict[str, str]) -> str:
    return "{" + ", ".join(f'"{key}": {value}' for key, value in parts.items()) + "}"


SAMPLE = '{"instances": [{"x": 1}], "predictions": [2.0]}'


def test_traffic_that_has_not_arrived_is_waited_for() -> None:
    """Else the model that served before would be what is tested."""
    mine = deployed_model_id_of("r1", 1)
    with pytest.raises(TransientError, match=f"deployed model 7, traffic has not moved to {mine} yet"):
        smoked(SAMPLE, {"predictions": [2.0], "deployedModelId": "7"})
    assert smoked(SAMPLE, {"predictions": [2.0], "deployedModelId": mine}) == {"predictions": [2.0]}


def test_the_ledger_keeps_no_megabytes_of_predictions() -> None:
    """A mask for each pixel would be written again at every step."""
    mask = [0.5] * 65_536
    sample = json.dumps({"instances": [1], "predictions": [mask]})
    assert smoked(sample, {"predictions": [mask]}) == {"predictions": []}
