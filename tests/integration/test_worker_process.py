"""A worker as a process: it ends cleanly on SIGTERM, and refuses to start on a bad setting or a missing subscription."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from messages import DataReady, Envelope, encode
from tests.support.house import ROOT, House, house
from tests.support.waiting import wait_until
from workers.runtime import EXIT_OK, EXIT_SETTINGS, EXIT_SUBSCRIPTION


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("house")) as built:
        built.start_cloud()
        yield built


def actions(home: House, worker: str) -> list[str]:
    lines = [line for line in home.log(worker).splitlines() if line.startswith("{")]
    return [json.loads(line).get("action", "") for line in lines]


def test_a_missing_subscription_ends_the_worker_with_the_mend(tmp_path: Path) -> None:
    """Before `baton setup` there is nothing to listen on: said once, not retried for ever."""
    with house(tmp_path) as bare:
        bare.start_cloud()
        bare.start_worker("train")
        assert bare.processes["train"].wait(60) == EXIT_SUBSCRIPTION
        assert "baton setup" in bare.log("train")


def test_sigterm_ends_a_worker_that_watches_a_job(home: House) -> None:
    """The step in hand is finished, the rest is left to the sweep, and the exit code says that all is well."""
    home.set_up()
    home.start_worker("preprocess")
    event = DataReady(pipeline="quick", source="gs://data/x.csv")
    home.publish("data-ready", *encode(Envelope("e", "sigterm", "//test", datetime.now(UTC), event)))
    wait_until(lambda: home.state("sigterm", "preprocess") == "running", 30, "a job runs")
    assert home.stop("preprocess") == EXIT_OK
    assert actions(home, "preprocess")[-1] == "stopped"
    home.start_worker("preprocess")
    wait_until(lambda: home.state("sigterm", "preprocess") == "published", 30, "the next worker carries on")


@pytest.mark.parametrize("stage", ["preprocess", "train", "deploy"])
def test_a_bad_setting_stops_the_start(stage: str) -> None:
    """The error names the variable and the mend, on one line of JSON."""
    done = subprocess.run(
        [sys.executable, "-m", f"workers.{stage}"],
        cwd=ROOT,
        env={"GOOGLE_CLOUD_PROJECT": "p", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == EXIT_SETTINGS
    assert "BATON_BUCKET" in json.loads(done.stderr.splitlines()[-1])["reason"]


def test_help_tells_every_setting_and_exit_code() -> None:
    """`--help` needs no environment and ends with commands to paste."""
    done = subprocess.run(
        [sys.executable, "-m", "workers.train", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert "BATON_SETTLE_S" in done.stdout
    assert "exit codes" in done.stdout
