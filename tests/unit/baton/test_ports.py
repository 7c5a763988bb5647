"""A part of the local cloud whose port was taken gets another one."""

import json
import socket
from pathlib import Path

import pytest

from baton.ports import as_option, is_free, moved_ports


def remember(home: Path, content: str) -> None:
    path = home / "cloud" / "ports.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)


def test_only_parts_whose_port_is_taken_move(tmp_path: Path, unused_port: int) -> None:
    """The others stay where their clients know them."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        remember(tmp_path, json.dumps({"pubsub": taken, "storage": unused_port}))
        moved = moved_ports(tmp_path)
    assert list(moved) == ["pubsub"]
    old, new = moved["pubsub"]
    assert old == taken
    assert is_free(new)


@pytest.mark.parametrize("content", ["{", "[]", '{"pubsub": "x"}'])
def test_a_file_that_says_nothing_moves_nothing(tmp_path: Path, content: str) -> None:
    """The local cloud itself will name what is wrong with it."""
    remember(tmp_path, content)
    assert moved_ports(tmp_path) == {}


def test_the_first_start_moves_nothing(tmp_path: Path) -> None:
    """There are no ports yet."""
    assert moved_ports(tmp_path) == {}


def test_ports_given_by_hand_count() -> None:
    """A moved part is only added where the user did not choose."""
    moved = {"pubsub": (1, 2), "storage": (3, 4)}
    assert as_option("", {}) == ""
    assert as_option("pubsub=8085", moved) == "pubsub=8085,storage=4"
