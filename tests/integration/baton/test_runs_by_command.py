"""Runs, from the command that starts one to the prediction of its model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from baton.client import Client
from baton.errors import NotKnown, Refused, RunFailed, TimedOut
from baton.runs import Run, RunState
from tests.integration.baton.conftest import ROOT, Baton
from tests.support.house import House

SOURCE = "gs://data/births.csv"
WAIT_S = 60.0


@pytest.fixture(scope="module")
def served(baton: Baton) -> Run:
    """A run that has ended with a served model, made by the command line."""
    answer = baton("publish", "data-ready", "--pipeline", "quick", "--source", SOURCE, "--run-id", "cli-1", "--wait")
    assert answer.code == 0, answer.out + answer.err
    lines = [line.split(" ", 1)[1] for line in answer.out.splitlines() if "cli-1" in line]
    for stage in ("preprocess", "train", "deploy"):
        assert f"cli-1 {stage}: succeeded" in lines
    assert lines[-1] == "cli-1: succeeded"
    assert "endpoint  projects/baton-local/locations/us-central1/endpoints/quick" in answer.out
    shown = baton("runs", "show", "cli-1", "--json")
    assert shown.code == 0
    assert shown.json["state"] == "succeeded"
    return shown.json


def test_a_run_is_shown_with_stages_jobs_and_times(baton: Baton, served: Run) -> None:
    """What `runs show` says to a person."""
    text = baton("runs", "show", "cli-1").out
    assert "babyweight" not in text
    assert "quick-preprocess-cli-1-a1" in text
    assert "8 train and 2 eval examples, 0 rejected" in text
    assert "where the time went" in text
    assert "rmse_lb 1" in text


def test_runs_are_listed_the_newest_first(baton: Baton, served: Run) -> None:
    """As a table and as JSON."""
    first = baton("publish", "data-ready", "--pipeline", "quick", "--source", SOURCE, "--json").json["run_id"]
    assert baton("runs", "watch", first, "--timeout", "60").code == 0
    listed = baton("runs", "--json").json
    ids = [run["id"] for run in listed]
    assert ids.index(first) < ids.index("cli-1")
    assert first in baton("runs", "--limit", "1").out


def test_the_model_answers(baton: Baton, served: Run, tmp_path: Path) -> None:
    """From the command line's JSON, from a file, and as JSON."""
    file = tmp_path / "instances.json"
    file.write_text(json.dumps({"instances": [{"x": 1}, {"x": 2}]}))
    assert baton("predict", "--pipeline", "quick", "--instance", '{"x": 1}').out == "7.5\n"
    answer = baton("predict", "--pipeline", "quick", "--file", str(file), "--json")
    assert answer.json == {
        "endpoint": "projects/baton-local/locations/us-central1/endpoints/quick",
        "predictions": [7.5, 7.5],
    }


def test_logs_of_every_stage_are_shown(baton: Baton, served: Run) -> None:
    """All of them, or one stage's; a stage that is none is refused with those there are."""
    lines = [json.loads(line) for line in baton("logs", "cli-1", "--json").out.splitlines()]
    assert {line["stage"] for line in lines} == {"preprocess", "train", "deploy"}
    only = [json.loads(line) for line in baton("logs", "cli-1", "deploy", "--json").out.splitlines()]
    assert {line["stage"] for line in only} == {"deploy"}
    assert any("/health" in line["text"] for line in only)
    refused = baton("logs", "cli-1", "dpeloy")
    assert refused.code == 4
    assert "preprocess, train, deploy" in refused.err


def test_a_run_of_the_same_id_starts_nothing_twice(baton: Baton, served: Run) -> None:
    """Publishing again is told, and changes nothing."""
    again = baton("publish", "data-ready", "--pipeline", "quick", "--source", SOURCE, "--run-id", "cli-1", "--wait")
    assert again.code == 0
    assert "known already" in again.err
    history = baton("runs", "show", "cli-1", "--json").json["stages"][0]["history"]
    assert len(history) == len(served["stages"][0]["history"])  # type: ignore[index]


def test_training_can_be_the_start(baton: Baton, served: Run) -> None:
    """A dataset that is there already needs no preprocessing."""
    dataset = "gs://baton-local-pipeline/artifacts/cli-1/preprocess-a1"
    answer = baton("publish", "preprocess-done", "--pipeline", "quick", "--dataset", dataset, "--wait", "--json")
    assert answer.code == 0
    assert [stage["name"] for stage in answer.json["stages"]] == ["train", "deploy"]


def test_a_rollout_can_be_the_start(baton: Baton, served: Run) -> None:
    """So can a model."""
    model = "gs://baton-local-pipeline/artifacts/cli-1/train-a1/model"
    answer = baton("publish", "train-done", "--pipeline", "quick", "--model", model, "--wait", "--json")
    assert answer.code == 0
    assert [stage["name"] for stage in answer.json["stages"]] == ["deploy"]


def test_an_uploaded_file_starts_a_run_of_each_generation(baton: Baton, tmp_path: Path) -> None:
    """The bucket's notification starts it; the same file again is a new run."""
    file = tmp_path / "births.csv"
    file.write_text("year\n2022\n")
    first = baton("upload", str(file), "--pipeline", "quick", "--wait", "--json")
    second = baton("upload", str(file), "--pipeline", "quick", "--wait", "--json")
    assert (first.code, second.code) == (0, 0)
    assert first.json["id"] != second.json["id"]
    assert first.json["stages"][0]["source"] == "gs://baton-local-data/incoming/quick/births.csv"


def test_a_source_that_is_not_there_fails_the_run_with_cause_and_mend(baton: Baton) -> None:
    """After all attempts; the log's end is shown, and the exit code is 1."""
    answer = baton("publish", "data-ready", "--pipeline", "quick", "--source", "gs://data/missing.csv", "--wait")
    assert answer.code == 1
    assert "preprocess failed (job-failed)" in answer.out
    assert "source gs://data/missing.csv is not there" in answer.out
    assert "mend:" in answer.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pipeline", "qiuck", "--source", SOURCE], "did you mean 'quick'?"),
        (["--pipeline", "quick", "--source", SOURCE, "--param", "limt=3"], "did you mean limit?"),
        (["--pipeline", "quick", "--source", SOURCE, "--param", "limit=-3"], "limit"),
        (["--pipeline", "quick", "--source", "http://x/y"], "source"),
        (["--pipeline", "quick", "--source", SOURCE, "--run-id", "Not Good"], "'Not Good' can name no run"),
    ],
)
def test_what_a_worker_would_put_aside_is_refused_at_once(baton: Baton, arguments: list[str], message: str) -> None:
    """Before anything is published."""
    answer = baton("publish", "data-ready", *arguments)
    assert answer.code == 2
    assert message in answer.err


def test_an_event_that_became_a_dead_letter_does_not_hang_who_waits(baton: Baton, tmp_path: Path) -> None:
    """The reason that the worker gave is the answer. (Without a folder of pipelines nothing can be checked before.)"""
    nowhere = {"BATON_PIPELINES_DIR": str(tmp_path / "none")}
    answer = baton("publish", "data-ready", "--pipeline", "unheard-of", "--source", SOURCE, "--wait", **nowhere)
    assert answer.code == 1
    assert "pipeline 'unheard-of' is unknown" in answer.err


def test_an_unknown_run_is_refused_and_named(baton: Baton) -> None:
    """Exit code 4, with where to look."""
    answer = baton("runs", "show", "no-such-run")
    assert answer.code == 4
    assert "'no-such-run'" in answer.err
    assert "baton runs" in answer.err


def test_whoever_watches_a_mistyped_run_is_told_so(baton: Baton) -> None:
    """It would be waited for without an end."""
    answer = baton("runs", "watch", "no-such-run", "--timeout", "7")
    assert answer.code == 5
    assert "no-such-run: nobody has claimed it yet: is that its id" in answer.out
    assert "no worker has claimed run no-such-run after 7 s" in answer.err


def test_an_endpoint_without_a_model_is_said(baton: Baton) -> None:
    """In a region where nothing was deployed."""
    answer = baton("predict", "--pipeline", "quick", "--instance", '{"x": 1}', BATON_REGION="europe-west4")
    assert answer.code == 4
    assert "endpoints/quick" in answer.err


def test_the_client_does_the_same_from_python(client: Client, served: Run) -> None:
    """Publish, wait with each change told, look, predict."""
    seen: list[RunState] = []
    run_id = client.publish_data_ready(SOURCE, "quick", params={"limit": 5})
    run = client.wait(run_id, WAIT_S, on_change=lambda changed: seen.append(changed.state))
    assert run.state is RunState.SUCCEEDED
    assert seen[-1] is RunState.SUCCEEDED
    assert run.params == {"limit": 5}
    assert run.metrics == {"rmse_lb": 1.0}
    assert client.run(run_id) == run
    assert run_id in [found.id for found in client.runs()]
    assert client.predict([{"x": 1}], "quick") == [7.5]
    assert {line.stage for line in client.logs(run_id, "train")} == {"train"}


def test_the_client_says_what_cannot_be(client: Client, tmp_path: Path) -> None:
    """Typed errors, each with its mend."""
    with pytest.raises(NotKnown, match="baton runs"):
        client.run("no-such-run")
    with pytest.raises(Refused, match="is no file"):
        client.upload(tmp_path / "none.csv", "quick")
    with pytest.raises(TimedOut, match="waiting after 0 s"):
        client.wait("never-published", timeout_s=0)


def test_a_dead_letter_is_told_to_a_client_that_waits(client: Client, tmp_path: Path) -> None:
    """RunFailed carries the worker's reason."""
    client.connections.publisher.publish(
        "data-ready",
        b"not json",
        {
            "ce-id": "x",
            "ce-type": "baton.data.ready.v1",
            "ce-subject": "malformed-1",
            "ce-time": "2026-01-01T00:00:00Z",
        },
    )
    with pytest.raises(RunFailed, match=r"malformed-1.*JSON"):
        client.wait("malformed-1", WAIT_S)


def test_the_example_of_the_readme_runs(running: House, served: Run) -> None:
    """`from baton import Client` in a fresh interpreter, settings from the environment."""
    code = "from baton import Client; print(Client().run('cli-1').state.value, Client().predict([{'x': 1}], 'quick'))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=running.env(), capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "succeeded [7.5]\n", done.stderr
