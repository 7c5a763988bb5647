"""kill -9 of any worker or of the local cloud, at any moment of a run: started again, it ends in one served model."""

import random
import urllib.parse
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.audit import settled_audit
from tests.support.house import LOCAL_CLOUD, PROJECT, WORKERS, House, house
from tests.support.waiting import wait_until

SEED = 20261121
PARENT = f"projects/{PROJECT}/locations/us-central1"
END_S = 90


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("house")) as built:
        built.start()
        yield built
        # Whatever was killed on the way: every event is accounted for, and nothing is in flight any more.
        report = settled_audit(built)
        assert report["published"] > 0


def wait_for_end(home: House, run_id: str) -> dict[str, Any]:
    wait_until(lambda: home.state(run_id, "deploy") == "published", END_S, f"run {run_id} served\n{home.log('deploy')}")
    record = home.record(run_id, "deploy")
    assert record is not None
    return record


def check_once(home: House, run_id: str) -> None:
    """One Dataflow job, one training job, one model version, one deployment, and nothing left in flight."""
    jobs = home.rest(f"/v1b3/projects/{PROJECT}/locations/us-central1/jobs?name=quick-preprocess-{run_id}-a1")
    assert [job["currentState"] for job in jobs.get("jobs", [])] == ["JOB_STATE_DONE"]
    text = urllib.parse.quote(f'labels.baton-run="{run_id}"')
    trained = home.rest(f"/v1/{PARENT}/customJobs?filter={text}").get("customJobs", [])
    assert [job["state"] for job in trained] == ["JOB_STATE_SUCCEEDED"]
    versions = home.rest(f"/v1/{PARENT}/models/quick:listVersions?filter={text}").get("models", [])
    assert len(versions) == 1
    endpoint = home.rest(f"/v1/{PARENT}/endpoints/quick")
    deployed = home.record(run_id, "deploy")["yields"]["deploy"]["deployed_model_id"]  # type: ignore[index]
    assert [model["id"] for model in endpoint["deployedModels"]].count(deployed) == 1
    assert endpoint["trafficSplit"][deployed] == 100
    wait_until(
        lambda: not list(home.storage().list_blobs("baton-local-pipeline", prefix="inflight/")), 10, "no marker left"
    )


def restart(home: House, victim: str) -> None:
    if victim == LOCAL_CLOUD:
        home.start_cloud()
    else:
        home.start_worker(victim)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("stage", WORKERS)
@pytest.mark.parametrize("state", ["launching", "running", "finished"])
def test_a_stages_worker_dies_in_any_of_its_states(running: House, stage: str, state: str) -> None:
    """The worker is killed as soon as its stage has reached the state; the one started after it ends the run."""
    order = ["", "claimed", "launching", "running", "finished", "published"]
    run_id = f"kill-{stage}-{state}"
    running.start_run(run_id)
    wait_until(lambda: order.index(running.state(run_id, stage)) >= order.index(state), END_S, f"{stage} is {state}")
    running.kill(stage)
    restart(running, stage)
    assert wait_for_end(running, run_id)["outcome"] == "succeeded"
    check_once(running, run_id)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("stage", WORKERS)
def test_the_local_cloud_dies_in_the_middle_of_a_stage(running: House, stage: str) -> None:
    """Broker, store and jobs service vanish at once while a job runs; all of it is found again."""
    run_id = f"kill-cloud-{stage}"
    running.start_run(run_id)
    wait_until(lambda: running.state(run_id, stage) == "running", END_S, f"{stage} is running")
    running.kill(LOCAL_CLOUD)
    restart(running, LOCAL_CLOUD)
    assert wait_for_end(running, run_id)["outcome"] == "succeeded"
    check_once(running, run_id)


@pytest.mark.timeout(600)
def test_anything_dies_at_any_moment(running: House) -> None:
    """Random victims at random moments of a run, several times in a row."""
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    for index in range(3):
        run_id = f"kill-random-{index}"
        victim = chance.choice([*WORKERS, LOCAL_CLOUD])
        moment = datetime.now(UTC).timestamp() + chance.uniform(0, 2.5)
        running.start_run(run_id)
        wait_until(lambda at=moment: datetime.now(UTC).timestamp() >= at, 5, "the moment")  # type: ignore[misc]
        running.kill(victim)
        restart(running, victim)
        assert wait_for_end(running, run_id)["outcome"] == "succeeded", (victim, index)
        check_once(running, run_id)
