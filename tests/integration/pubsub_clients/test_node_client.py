"""@google-cloud/pubsub for Node.js, unchanged, installed from the package registry by the committed lock file."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.integration.pubsub_clients.conftest import PROJECT, Broker

_PROGRAM = Path(__file__).parent / "node"
_COUNT = 60
_INSTALL_S = 90
_NOT_FOUND = 5


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the program with its packages. Without Node.js, or offline on a laptop, there is nothing to test with."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed: the Node.js client is not tested here")
    folder = tmp_path_factory.mktemp("node") / "client"
    shutil.copytree(_PROGRAM, folder, ignore=shutil.ignore_patterns("node_modules"))
    argv = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
    if done.returncode:
        reason = f"npm ci failed, so the Node.js client is not tested here: {done.stderr[-500:]}"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return folder


def run(program: Path, broker: Broker) -> dict[str, Any]:
    """The program's answer."""
    environment = {
        "PATH": os.environ["PATH"],
        "PUBSUB_EMULATOR_HOST": broker.address,
        "PUBSUB_PROJECT_ID": PROJECT,
        "GOOGLE_CLOUD_PROJECT": PROJECT,
    }
    argv = ["node", "client.js", str(_COUNT)]
    done = subprocess.run(argv, cwd=program, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.slow
def test_node_client_publishes_and_subscribes(program: Path, broker: Broker) -> None:
    """Node's client gets every message: plain, in order, exactly once and filtered; a missing topic is NOT_FOUND."""
    answer = run(program, broker)
    assert answer["ids"] == _COUNT
    assert {item["number"] for item in answer["plain"]} == set(range(_COUNT))
    for key in ("k0", "k1", "k2"):
        numbers = [item["number"] for item in answer["ordered"] if item["key"] == key]
        assert numbers == sorted(numbers), f"{key} came as {numbers}"
    once = [item["number"] for item in answer["once"]]
    assert sorted(once) == list(range(_COUNT)), "acks were confirmed, so each comes once"
    filtered = [item["number"] for item in answer["filtered"]]
    assert set(filtered) == set(range(1, _COUNT, 2))
    assert len(filtered) == _COUNT // 2 + 1, "the nacked message came again"
    assert answer["missing"] == _NOT_FOUND
