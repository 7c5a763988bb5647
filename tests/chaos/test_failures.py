"""Failures as events, on real processes: each is classified, tried again where that can help, and in the end explained."""

import json
import signal
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from messages import StageFailed
from tests.chaos.outcomes import Outcomes
from tests.chaos.verdict import jobs_of
from tests.support.audit import settled_audit
from tests.support.house import PROJECT, House, house
from tests.support.waiting import wait_until

LOCATION = f"projects/{PROJECT}/locations/us-central1"
END_S = 90
LATE = """name = "late"
[preprocess]
template = "templates/quick.json"
attempts = 2
deadline_s = 1.0
[train]
image = "quick-trainer"
attempts = 1
[deploy]
image = "quick-serving"
endpoint = "late"
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Outcomes]]:
    """A house with two attempts to each stage, and somebody who listens to what comes out of it."""
    with house(tmp_path_factory.mktemp("house")) as home:
        folder = home.folder / "pipelines"
        quick = (folder / "quick.toml").read_text()
        (folder / "late.toml").write_text(LATE)
        (folder / "untemplated.toml").write_text(
            quick.replace('"quick"', '"untemplated"', 1).replace("/quick.", "/no.")
        )
        (folder / "unimaged.toml").write_text(
            quick.replace('"quick"', '"unimaged"', 1).replace("quick-trainer", "none")
        )
        home.start()
        with Outcomes(home.environment["PUBSUB_EMULATOR_HOST"]) as outcomes:
            yield home, outcomes
        assert settled_audit(home)["published"] > 0


def outcome(outcomes: Outcomes, run_id: str) -> Any:
    told = wait_until(lambda: dict(outcomes.told.get(run_id, {})), END_S, f"outcome of {run_id}")
    (envelope,) = told.values()
    return envelope.event


@pytest.mark.parametrize(
    ("source", "pipeline", "stage", "reason", "attempts", "message", "last_line"),
    [
        ("missing", "quick", "preprocess", "job-failed", 2, "exited with status 1", "missing.csv is not there"),
        ("refused", "quick", "preprocess", "job-failed", 1, "exited with status 2", "refused.csv is not for us"),
        ("hollow", "quick", "preprocess", "bad-output", 2, "manifest.json", ""),
        ("births", "untemplated", "preprocess", "launch-refused", 1, "Unable to open template file", ""),
        ("births", "unimaged", "train", "job-failed", 1, "none", ""),
        ("slow", "late", "preprocess", "deadline", 2, "longer than the stage's deadline of 1 s", ""),
    ],
    ids=["failed", "failed for good", "bad output", "refused launch", "no image", "deadline"],
)
def test_a_failure_is_told_with_its_cause(
    running: tuple[House, Outcomes],
    source: str,
    pipeline: str,
    stage: str,
    reason: str,
    attempts: int,
    message: str,
    last_line: str,
) -> None:
    """After as many attempts as can help: the reason, the provider's words, the job's last lines, and what to do."""
    home, outcomes = running
    run_id = f"tell-{source}-{pipeline}"
    home.start_run(run_id, f"gs://data/{source}.csv", pipeline)
    failed = outcome(outcomes, run_id)
    assert isinstance(failed, StageFailed)
    assert (failed.stage, failed.reason, failed.attempts) == (stage, reason, attempts), failed
    assert message in failed.message
    assert failed.mend
    assert last_line in "\n".join(failed.log_tail)
    attempted = {job.attempt for job in jobs_of(home, run_id) if job.stage == stage}
    assert attempted == (set() if reason == "launch-refused" else set(range(1, attempts + 1)))


def test_a_failure_that_passes_costs_an_attempt_and_no_run(running: tuple[House, Outcomes]) -> None:
    """The second attempt waits its backoff, works in a folder of its own, and the run is served."""
    home, outcomes = running
    home.start_run("flaky", "gs://data/flaky.csv")
    assert not isinstance(outcome(outcomes, "flaky"), StageFailed)
    record = home.record("flaky", "preprocess")
    assert record is not None
    assert (record["attempt"], record["outcome"]) == (2, "succeeded")
    began = {step["attempt"]: step["time"] for step in reversed(record["history"]) if step["state"] == "running"}
    waited = datetime.fromisoformat(began[2]) - datetime.fromisoformat(began[1])
    assert waited.total_seconds() > 0.075, "the backoff begins with 0.1 s, less a quarter"


def test_a_job_that_vanishes_is_run_again(running: tuple[House, Outcomes]) -> None:
    """Somebody deletes the job at its provider while nobody looks: noticed, tried again, served."""
    home, outcomes = running
    home.start_run("vanishing")
    record = wait_until(lambda: running_record(home, "vanishing", "train"), END_S, "train is running")
    worker = home.processes["train"]
    worker.send_signal(signal.SIGSTOP)
    try:
        address, name = home.environment["BATON_AIPLATFORM_ENDPOINT"], record["job"]["id"]
        wait_until(lambda: home.rest(f"/v1/{name}")["state"] == "JOB_STATE_SUCCEEDED", END_S, "the job has ended")
        request = urllib.request.Request(f"{address}/v1/{name}", method="DELETE")
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert json.loads(answer.read())["done"]
        found = home.record("vanishing", "train")
        assert found is not None
        assert found["state"] == "running", "the worker was stopped too late for this test to show anything"
    finally:
        worker.send_signal(signal.SIGCONT)
    assert not isinstance(outcome(outcomes, "vanishing"), StageFailed)
    again = home.record("vanishing", "train")
    assert again is not None
    assert (again["attempt"], again["outcome"]) == (2, "succeeded")
    assert "job-vanished" in [step.get("note") for step in again["history"]]


def running_record(home: House, run_id: str, stage: str) -> dict[str, Any] | None:
    record = home.record(run_id, stage)
    return record if record is not None and record["state"] == "running" else None
