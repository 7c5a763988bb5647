"""Backfills against a real house: bounded, stopped by signals, resumed, and balanced in the end."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from baton.backfill.plan import run_id
from baton.client import Client
from tests.integration.baton.conftest import ROOT, Answer
from tests.support.audit import settled_audit
from tests.support.house import House
from tests.support.waiting import wait_until

Command = Callable[..., Answer]
WAIT_S = 90


@pytest.fixture
def name() -> str:
    return f"bf-{uuid.uuid4().hex[:8]}"


def started(home: House, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "baton", "backfill", *arguments],
        cwd=ROOT,
        env=home.env(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill-9"])
def test_a_backfill_is_stopped_and_resumed(
    here: Command, client: Client, running: House, name: str, tmp_path: Path, number: signal.Signals
) -> None:
    """Every source ends in one run; while it lasted no more were in flight than allowed."""
    sources = [f"gs://data/part-{n}.csv" for n in range(6)]
    listed = tmp_path / "sources.txt"
    listed.write_text("\n".join(sources))
    process = started(
        running,
        "--pipeline",
        "quick",
        "--sources",
        str(listed),
        "--id",
        name,
        "--concurrency",
        "2",
        "--param",
        "limit=3",
    )
    most = 0

    def in_flight() -> set[str]:
        names = client.connections.objects.list("inflight/")
        return {found.rpartition("/")[2] for found in names if found.rpartition("/")[2].startswith(name)}

    def has_begun() -> bool:
        nonlocal most
        most = max(most, len(in_flight()))
        begun = {found.split("/")[1] for found in client.connections.objects.list(f"runs/{name}-")}
        return len(begun) >= 3

    wait_until(has_begun, WAIT_S, "three runs have begun")
    os.kill(process.pid, number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == (130 if number is signal.SIGINT else -number)
    if number is signal.SIGINT:
        assert f"baton backfill --resume {name}" in said
    else:
        refused = here("backfill", "--resume", name)
        assert refused.code == 6
        assert "--take-over" in refused.err
    answer = here("backfill", "--resume", name, "--concurrency", "2", "--take-over", "--json")
    assert answer.code == 0, answer.err
    assert (answer.json["succeeded"], answer.json["sources"]) == (6, 6)
    assert most <= 2
    runs = {found.split("/")[1] for found in client.connections.objects.list(f"runs/{name}-")}
    assert runs == {run_id(name, source) for source in sources}
    assert all(client.run(found).params["limit"] == 3 for found in runs)
    assert here("backfill", "--status", name).code == 0
    settled_audit(running)


def test_a_backfill_is_cancelled_from_another_terminal(
    here: Command, client: Client, running: House, name: str, tmp_path: Path
) -> None:
    """Its driver is sent away, no job of it runs on, and what was not started can still be."""
    listed = tmp_path / "sources.txt"
    listed.write_text("\n".join(f"gs://data/slow-{n}.csv" for n in range(40)))
    process = started(running, "--pipeline", "quick", "--sources", str(listed), "--id", name, "--concurrency", "3")

    def begun() -> set[str]:
        return {found.split("/")[1] for found in client.connections.objects.list(f"runs/{name}-")}

    wait_until(lambda: len(begun()) >= 3, WAIT_S, "three runs have begun")
    answer = here("backfill", "--cancel", name, "--json")
    assert answer.code == 0, answer.err
    _, said = process.communicate(timeout=30)
    assert process.returncode == 6, said
    assert "taken over" in said
    assert answer.json["in_flight"] == 0
    ended = sum(answer.json[how] for how in ("succeeded", "failed", "cancelled"))
    assert ended == len(begun())
    assert answer.json["waiting"] == 40 - ended
    assert list(client.connections.objects.list(f"inflight/preprocess/{name}")) == []
    settled_audit(running)


def test_patterns_failures_and_retries(here: Command, client: Client, running: House, name: str) -> None:
    """Objects of a bucket by their pattern; a failed one is told, and tried again under its retry's name."""
    bucket = client.connections.storage.bucket("baton-local-pipeline")
    for word in ("good", "missing"):
        bucket.blob(f"backfill/{name}/{word}.csv").upload_from_string("x")
    pattern = f"gs://baton-local-pipeline/backfill/{name}/*.csv"
    first = here("backfill", "--pipeline", "quick", "--sources", pattern, "--id", name)
    assert first.code == 1
    assert "1 succeeded, 1 failed" in first.out
    assert "missing.csv is not there" in first.out
    assert "--retry-failed" in first.out
    again = here("backfill", "--resume", name, "--retry-failed", "--json")
    assert again.code == 1
    (row,) = again.json["not_succeeded"]
    assert row["run_id"] == run_id(name, f"gs://baton-local-pipeline/backfill/{name}/missing.csv") + "-r2"


def test_what_cannot_be_run_is_refused_before_it_begins(here: Command, client: Client, name: str) -> None:
    """Nothing is written down for it."""
    for arguments in (
        [],
        ["--pipeline", "quick"],
        ["--pipeline", "quick", "--sources", "gs://b/x", "--resume", name],
        ["--pipeline", "unknown", "--sources", "gs://b/x", "--id", name],
        ["--pipeline", "quick", "--sources", "gs://b/x", "--id", name, "--param", "limt=1"],
        ["--pipeline", "quick", "--sources", "gs://b/x", "--id", name, "--param", "limit=-1"],
        ["--pipeline", "quick", "--sources", "gs://b/x", "--id", "Not A Name"],
    ):
        assert here("backfill", *arguments).code == 2
    assert here("backfill", "--resume", name).code == 4


def test_a_notebook_does_the_same(client: Client, running: House, name: str) -> None:
    """The client's methods are what the commands use."""
    standing = client.backfill(["gs://data/notebook.csv"], "quick", concurrency=1, backfill_id=name)
    assert standing.counts == {"succeeded": 1}
    assert client.backfill(["gs://data/notebook.csv"], "quick", backfill_id=name).failed == []
    assert client.audit(wait_s=30).is_balanced
