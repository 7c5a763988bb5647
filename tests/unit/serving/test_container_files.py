"""The container files of trainer and server start what they say, from files that exist."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCKER = ROOT / "deploy" / "docker"


def entry_point(name: str) -> list[str]:
    (line,) = re.findall(r"^ENTRYPOINT (\[.*\])$", (DOCKER / name).read_text(), re.MULTILINE)
    command: list[str] = json.loads(line)
    return command


@pytest.mark.parametrize("name", ["trainer.Dockerfile", "serving.Dockerfile"])
def test_every_copied_file_exists_and_the_command_starts(name: str) -> None:
    """What the image copies is in the repository, and its command answers --help without its neighbours."""
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (DOCKER / name).read_text(), re.MULTILINE)
    assert all((ROOT / source).exists() for line in copied for source in line.split())
    command = [sys.executable, *entry_point(name)[1:], "--help"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.startswith(b"usage: python -m")


def test_only_the_container_listens_on_all_addresses() -> None:
    """Vertex AI's contract asks for it there; everywhere else the default is loopback."""
    command = entry_point("serving.Dockerfile")
    assert command[command.index("--host") + 1] == "0.0.0.0"
