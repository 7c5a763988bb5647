"""`baton up` as a user has it: one command, one log, and nothing left behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.integration.baton.conftest import ROOT
from tests.support.house import FAST, QUICK
from tests.support.waiting import wait_until

PIPELINE = """name = "quick"
[trigger]
prefix = "incoming/quick/"
[preprocess]
template = "templates/quick.json"
[train]
image = "quick-trainer"
[deploy]
image = "quick-serving"
endpoint = "quick"
"""
TEMPLATE = (
    '{"image": "us-central1-docker.pkg.dev/baton-local/baton/quick-beam:latest", "sdkInfo": {"language": "PYTHON"}}'
)
READY_S = 60


class Up:
    """One `baton up` over a folder of its own, with quick jobs."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / ".baton"
        (folder / "pipelines").mkdir()
        (folder / "pipelines" / "quick.toml").write_text(PIPELINE)
        (folder / "deploy" / "templates").mkdir(parents=True)
        (folder / "deploy" / "templates" / "quick.json").write_text(TEMPLATE)
        jobs = {"quick-beam": "prepare", "quick-trainer": "train", "quick-serving": "serve"}
        (folder / "deploy" / "images.toml").write_text(
            "".join(f'[images.{k}]\ncommand = ["{{python}}", "-S", "{QUICK}", "{v}"]\n' for k, v in jobs.items())
        )
        self.folder = folder
        self.log = folder / "up.log"
        self.process: subprocess.Popen[bytes] | None = None

    def environment(self) -> dict[str, str]:
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("BATON_", "GOOGLE_", "PYTEST"))}
        return {**plain, **FAST, "PYTHONPATH": str(ROOT)}

    def start(self, *options: str) -> None:
        """Start it, and return when it says that it is ready."""
        said = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "baton", "up", *options],
                cwd=self.folder,
                env=self.environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        marks = ("─ ready ─", '"action": "ready"')  # the panel's, and the line's of --raw
        wait_until(
            lambda: any(m in self.log.read_bytes()[said:].decode(errors="replace") for m in marks), READY_S, "up"
        )

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run another `baton` command in the same folder, as from a second terminal."""
        return subprocess.run(
            [sys.executable, "-m", "baton", *arguments],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=90,
        )

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(40)

    def descendants(self) -> dict[psutil.Process, list[str]]:
        """Return every process that belongs to this folder, however it was started, with its words."""
        found = {}
        for process in psutil.process_iter():
            try:
                words = process.cmdline()
                place = " ".join([*words, process.environ().get("BATON_PIPELINES_DIR", "")])
                if str(self.folder) in place and process.status() != psutil.STATUS_ZOMBIE:
                    found[process] = words
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def of_module(self, name: str) -> psutil.Process:
        """Return the one process that runs `python -m name`."""
        (found,) = [process for process, words in self.descendants().items() if words[1:3] == ["-m", name]]
        return found

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    made = Up(tmp_path)
    yield made
    if made.process is not None:
        made.process.kill()
        made.process.wait()
    wait_until(lambda: not made.descendants(), 30, "the end of everything")


def test_a_run_goes_through_while_parts_are_killed_and_ctrl_c_ends_all(up: Up) -> None:
    """Killed workers and a killed local cloud come back by themselves; Ctrl-C leaves nothing running and exits 0."""
    up.start("--raw")
    source = up.folder / "births.csv"
    source.write_text("year\n2022\n")
    uploaded = json.loads(up.run("upload", str(source), "--pipeline", "quick", "--json").stdout)
    for module in ("workers.train", "workers.deploy", "localcloud"):
        up.of_module(module).kill()
    watched = up.run("runs", "watch", uploaded["run_id"], "--timeout", "60", "--json")
    assert watched.returncode == 0, watched.stderr + up.log.read_text()[-3000:]
    assert json.loads(watched.stdout)["state"] == "succeeded"
    died = {line["process"] for line in up.lines() if line.get("action") == "process-died"}
    assert died == {"train", "deploy", "cloud"}
    assert up.end(signal.SIGINT) == 0
    assert up.descendants() == {}
    assert up.run("runs").returncode == 3, "nothing answers any more, and that is said"


def test_a_second_one_says_so_and_a_killed_one_is_followed_by_the_next(up: Up) -> None:
    """kill -9 of `baton up` ends its children; the next one waits for that, and finds its data and its ports again."""
    up.start()
    assert "PUBSUB_EMULATOR_HOST" in up.log.read_text(), "the panel shows the endpoints"
    endpoints = (up.home / "cloud" / "endpoints.json").read_text()
    second = up.run("up")
    assert second.returncode == 6
    assert up.process is not None
    assert f"process {up.process.pid}" in second.stderr
    before = up.descendants()
    up.process.kill()
    up.process.wait()
    up.start()
    assert not [p for p in before if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert (up.home / "cloud" / "endpoints.json").read_text() == endpoints
    assert up.end(signal.SIGTERM) == 0
    assert up.descendants() == {}


def test_a_local_cloud_that_cannot_start_is_said_with_its_last_words(up: Up) -> None:
    """Instead of being started again and again."""
    failed = up.run("up", "--ports", "pubsub=99999999")
    assert failed.returncode == 1
    assert "the local cloud does not start" in failed.stderr
    assert "99999999" in failed.stderr
    assert up.descendants() == {}
