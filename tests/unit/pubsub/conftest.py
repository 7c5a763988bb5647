"""The lab, and a server of the bare transport, one for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.pubsub.lab import Lab
from tests.unit.pubsub.transport_server import Server, serving


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    yield made
    made.close()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made
