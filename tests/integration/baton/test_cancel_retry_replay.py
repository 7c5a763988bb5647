"""Cancel, retry and replay against a real house: jobs stop, stages run again, a past run is played again."""

import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from baton.client import Client
from baton.errors import BatonError, NotKnown
from baton.runs import RunState
from tests.integration.baton.conftest import Answer
from tests.support.audit import settled_audit
from tests.support.house import PROJECT, House
from tests.support.jobs.quick import SLOW_EXAMPLES
from tests.support.waiting import wait_until

SOURCE, SLOW, MISSING = "gs://data/births.csv", "gs://data/slow.csv", "gs://data/missing.csv"
WAIT_S = 60.0
SECONDS = 20.0  # "within seconds", on a machine that has other work to do; the jobs would run for ten minutes
Command = Callable[..., Answer]


def name(word: str) -> str:
    return f"{word}-{uuid.uuid4().hex[:8]}"


def running_in(client: Client, run_id: str, stage: str) -> None:
    """Wait until the stage's job runs."""

    def is_running() -> bool:
        found = client.look(run_id).stage(stage)
        return found is not None and found.state == "running"

    wait_until(is_running, WAIT_S, f"{stage} of {run_id} is running")


@pytest.mark.parametrize(
    ("stage", "source", "params"),
    [("preprocess", SLOW, {}), ("train", SOURCE, {"num_train_examples": SLOW_EXAMPLES})],
)
def test_a_run_is_cancelled_and_tried_again(
    here: Command, client: Client, running: House, stage: str, source: str, params: dict[str, int]
) -> None:
    """Its cloud job stops within seconds and no later stage starts; the retry begins at the stage that was stopped."""
    run_id = client.publish_data_ready(source, "quick", params=params, run_id=name("cancel"))
    running_in(client, run_id, stage)
    began = time.monotonic()
    answer = here("cancel", run_id, "--json")
    took_s = time.monotonic() - began
    assert answer.code == 0, answer.err
    assert took_s < SECONDS
    (run,) = answer.json
    assert run["state"] == "cancelled"
    assert [s["outcome"] for s in run["stages"] if s["name"] == stage] == ["cancelled"]
    later = [s for s in run["stages"] if s["name"] == "deploy"]
    assert later[0]["state"] == "waiting"
    if stage == "preprocess":
        path = f"/v1b3/projects/{PROJECT}/locations/us-central1/jobs?name=quick-preprocess-{run_id}-a1"
        assert [job["currentState"] for job in running.rest(path)["jobs"]] == ["JOB_STATE_CANCELLED"]

    refused = here("cancel", run_id)
    assert refused.code == 0, "twice is as good as once"
    retried = here("retry", run_id, "--json")
    assert retried.json == {"run_id": f"{run_id}-r2", "parent": run_id}
    running_in(client, f"{run_id}-r2", stage)
    again = here("retry", run_id)
    assert again.code == 1
    assert f"being tried again as {run_id}-r2" in again.err
    client.cancel(f"{run_id}-r2")
    assert client.wait(f"{run_id}-r2", timeout_s=WAIT_S).state is RunState.CANCELLED
    assert client.run(f"{run_id}-r2").parent == run_id
    assert f"tried again as {run_id}-r2" in here("runs", "show", run_id).out


def test_a_failed_run_is_mended_and_goes_on_from_where_it_failed(here: Command, client: Client, running: House) -> None:
    """What the stages before have made is used; the retry is a served model."""
    run_id = name("mend")
    folder = running.folder / "pipelines"
    text = (folder / "quick.toml").read_text().replace('"quick"', '"mended"', 1)
    (folder / "mended.toml").write_text(text.replace("quick-trainer", "no-such-trainer").replace("= 2", "= 1"))
    try:
        client.publish_data_ready(SOURCE, "mended", run_id=run_id)
        assert client.wait(run_id, timeout_s=WAIT_S).state is RunState.FAILED
        failure = client.run(run_id).failure
        assert failure is not None
        assert failure["stage"] == "train"
        (folder / "mended.toml").write_text(text)
        answer = here("retry", run_id, "--wait", "--json")
        assert answer.code == 0, answer.err
        assert answer.json["parent"] == run_id
        assert [stage["name"] for stage in answer.json["stages"]] == ["train", "deploy"]
        before = client.run(run_id).stage("preprocess")
        assert before is not None
        assert answer.json["stages"][0]["source"] == before.result["dataset_uri"]
    finally:
        (folder / "mended.toml").unlink()


def test_what_cannot_be_cancelled_says_so(here: Command, client: Client) -> None:
    """A run that has ended, and one that nobody knows; the latter on demand, before it begins."""
    run_id = client.publish_data_ready(MISSING, "quick", run_id=name("ended"))
    client.wait(run_id, timeout_s=WAIT_S)
    with pytest.raises(BatonError, match="failed already"):
        client.cancel(run_id)
    unknown = name("unknown")
    with pytest.raises(NotKnown):
        client.cancel(unknown)
    assert here("cancel", unknown).code == 4
    assert here("cancel", unknown, "--unclaimed").code == 0
    message = client.publish_data_ready(SOURCE, "quick", run_id=unknown)
    assert message == unknown
    wait_until(lambda: [f for f in client.connections.objects.list("fates/preprocess-worker/")], WAIT_S, "its fate")
    assert client.look(unknown).state is RunState.CANCELLED
    assert client.look(unknown).started is None


def test_one_that_cannot_be_cancelled_keeps_none_of_the_others(here: Command, client: Client) -> None:
    """All are told of, and the exit code says that something was wrong."""
    ended = client.publish_data_ready(MISSING, "quick", run_id=name("ended"))
    client.wait(ended, timeout_s=WAIT_S)
    goes_on = client.publish_data_ready(SLOW, "quick", run_id=name("goes-on"))
    running_in(client, goes_on, "preprocess")
    unknown = name("unknown")
    answer = here("cancel", ended, unknown, goes_on, "--json")
    assert answer.code == 1
    assert f"run {ended} has failed already" in answer.err
    assert f"run {unknown!r} is not in the ledger" in answer.err
    assert [(run["id"], run["state"]) for run in answer.json] == [(goes_on, "cancelled")]


def test_a_past_run_is_played_again(here: Command, client: Client, running: House, tmp_path: Path) -> None:
    """From the ledger and from a file, with the data that lies here; side by side with what came of it then."""
    run_id = client.publish_data_ready(SOURCE, "quick", run_id=name("past"))
    client.wait(run_id, timeout_s=WAIT_S)
    refused = here("replay", run_id)
    assert refused.code == 2
    assert "does not lie in the local cloud" in refused.err
    data = "gs://baton-local-pipeline/templates/quick.json"
    answer = here("replay", run_id, "--source", data, "--wait", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["run_id"] == f"{run_id}-replay"
    assert [(s["then"], s["now"]) for s in answer.json["stages"]] == [("succeeded", "succeeded")] * 3

    file = tmp_path / "run.json"
    assert here("replay", run_id, "--export", str(file)).code == 0
    assert set(json.loads(file.read_text())["events"]) == {"preprocess", "train", "deploy"}
    again = here("replay", "--file", str(file), "--from", "deploy", "--wait")
    assert again.code == 0, again.err
    assert client.run(f"{run_id}-replay2").parent == run_id
    assert client.run(f"{run_id}-replay2").stage("train") is None
    assert here("replay").code == 2
    assert here("replay", run_id, "--file", str(file)).code == 2


def test_a_replay_never_publishes_to_googles_cloud(
    here: Command, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says how to take the run along instead."""
    run_id = client.publish_data_ready(MISSING, "quick", run_id=name("far"))
    client.wait(run_id, timeout_s=WAIT_S)
    export = client.export(run_id)
    variables = {k: v for k, v in client.profile.variables.items() if k != "PUBSUB_EMULATOR_HOST"}
    object.__setattr__(client.profile, "variables", variables)
    with pytest.raises(BatonError, match="local cloud alone") as told:
        client.replay(export)
    assert "--export" in told.value.mend


def test_after_all_that_the_audit_balances(client: Client, running: House) -> None:
    """Cancelled, tried again, played again: every event is accounted for."""
    run_id = client.publish_data_ready(SLOW, "quick", run_id=name("audited"))
    running_in(client, run_id, "preprocess")
    client.cancel(run_id)
    client.wait(run_id, timeout_s=WAIT_S)
    settled_audit(running)
