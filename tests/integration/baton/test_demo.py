"""`baton demo`, the main job, for real: Beam, TensorFlow and LiteRT on real births."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.baton.conftest import ROOT
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
DEMO_S = 300


def environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("BATON_", "GOOGLE_", "PYTEST"))}


def demo(home: Path, out: Path, *flags: str) -> "subprocess.Popen[bytes]":
    with out.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "baton", "demo", "--data-dir", str(home), *flags],
            cwd=ROOT,
            env=environment(),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def of_this(home: Path) -> list[psutil.Process]:
    """Return the processes whose words or environment name the data directory."""
    found = []
    for process in psutil.process_iter():
        try:
            words = " ".join([*process.cmdline(), *process.environ().values()])
            if str(home) in words and process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    made = tmp_path / ".baton"
    yield made
    wait_until(lambda: not of_this(made), 30, "the end of everything")


def test_the_demo_ends_with_a_served_model_and_works_twice(home: Path, tmp_path: Path) -> None:
    """Two runs each time, their metrics, a prediction over HTTP, where the time went, and nothing left running."""
    runs: set[str] = set()
    for time, flags in (("first", ()), ("second", ("--json",))):
        out = tmp_path / f"{time}.log"
        assert demo(home, out, *flags).wait(DEMO_S) == 0, out.read_text()
        text = out.read_text()
        runs |= set(re.findall(r"^\d\d:\d\d:\d\d (\S+): succeeded$", text, re.M))
        rmse = [float(value) for value in re.findall(r"rmse_lb (\d\.\d+), mae", text)]
        assert len(rmse) == 2
        assert all(0.9 < value < 1.1 for value in rmse), text
        (boy,) = re.findall(r"a boy, single, 39 weeks, mother of 28: (\d\.\d) lb", text)
        assert 7 < float(boy) < 8.2
        for words in ("where the time went", "whole demo", "endpoint  http://127.0.0.1:", "baton predict"):
            assert words in text
        if flags:
            told = json.loads(text[text.index("\n{\n") :])
            assert [run["state"] for run in told["runs"]] == ["succeeded", "succeeded"]
            assert 7 < told["predictions"][0]["pounds"] < 8.2
        print(text[text.index("where the time went") :])
        assert of_this(home) == []
    assert len(runs) == 4


def test_ctrl_c_in_the_middle_leaves_nothing_running(home: Path, tmp_path: Path) -> None:
    """Workers, local cloud and the jobs it runs all end; the exit code says that it was interrupted."""
    out = tmp_path / "demo.log"
    process = demo(home, out)
    wait_until(lambda: b"JOB_STATE_RUNNING" in out.read_bytes(), DEMO_S, "a job that runs")
    assert [p for p in of_this(home) if "beam.babyweight" in p.cmdline()]
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130, out.read_text()
    assert of_this(home) == []
