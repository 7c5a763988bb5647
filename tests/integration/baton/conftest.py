"""The command line against a real local cloud, real workers and quick jobs."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from baton.__main__ import run
from baton.client import Client
from baton.profile import Profile
from tests.support.house import House, house

ROOT = Path(__file__).parents[3]
COMMAND_TIMEOUT_S = 90


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Baton:
    """Runs `baton` in the environment of a house."""

    home: House

    def __call__(self, *arguments: str, **variables: str) -> Answer:
        done = subprocess.run(
            [sys.executable, "-m", "baton", *arguments],
            cwd=ROOT,
            env={**self.home.env(), **variables},
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
        )
        return Answer(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house with its workers, set up; its pipeline is called `quick`."""
    with house(tmp_path_factory.mktemp("house")) as built:
        built.start()
        yield built


@pytest.fixture(scope="session")
def baton(running: House) -> Baton:
    return Baton(running)


@pytest.fixture
def client(running: House, tmp_path: Path) -> Iterator[Client]:
    """A client in this process; the environment that it sets is taken back."""
    before = dict(os.environ)
    with Client(Profile(running.env(), home=tmp_path, source="the test")) as made:
        yield made
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def here(client: Client, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    """Runs `baton` in this process, with the client that is there: a process for each command would take minutes."""
    monkeypatch.setattr("baton.client.Client", lambda profile=None: client)

    def command(*arguments: str) -> Answer:
        capsys.readouterr()
        code = run(list(arguments))
        said = capsys.readouterr()
        return Answer(code, said.out, said.err)

    return command
