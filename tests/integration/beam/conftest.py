"""Starts the preprocessing job as the jobs service does: a process of its own, judged by exit code and last line."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
RUNNER = "--runner=FnApiRunner"
# Any socket that is not loopback makes the process fail: local mode must not need one.
START = """
import runpy
from tests.support import loopback_only
loopback_only.enforce()
runpy.run_module("beam.babyweight", run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True)
class Done:
    """A finished job."""

    exit_code: int
    lines: list[dict[str, Any]]

    @property
    def last(self) -> dict[str, Any]:
        """The last log line."""
        return self.lines[-1]


@dataclass(frozen=True)
class Job:
    """`python -m beam.babyweight` with an environment of its own."""

    environment: Mapping[str, str]

    def start(self, *flags: str) -> "subprocess.Popen[str]":
        """Start, and return the process."""
        return subprocess.Popen(
            [sys.executable, "-c", START, RUNNER, *flags],
            cwd=ROOT,
            env=dict(self.environment),
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *flags: str) -> Done:
        """Run to the end."""
        process = self.start(*flags)
        _, err = process.communicate(timeout=100)
        return Done(process.returncode, [json.loads(line) for line in err.splitlines()])


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Job]:
    """Make a job; further variables by keyword."""

    def make(**variables: str) -> Job:
        return Job({"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), **variables})

    return make


def manifest_of(directory: Path) -> dict[str, Any]:
    """Read a dataset's manifest."""
    return dict(json.loads((directory / "manifest.json").read_text()))
