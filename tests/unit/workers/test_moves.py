"""What many threads share while they move many runs."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.stage_world import StageWorld
from workers.moves import Moves
from workers.record import StageRecord
from workers.steps import Policy

RUNS = 3000
THREADS = 8


@pytest.fixture
def eager() -> Iterator[None]:
    """Threads that take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_threads_share_what_was_parsed(tmp_path: Path, eager: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """With more runs than are kept, each thread finds its own run's claim, and none stumbles over another's tidying."""
    monkeypatch.setattr("workers.moves._CLAIMS_KEPT", 2)
    world = StageWorld(tmp_path)
    world.intake().accept(world.message())
    record = world.record()
    moves = Moves(world.stage, world.ledger, world.clock, "w", Policy())
    runs = [record.model_copy(update={"run_id": f"r{number}"}) for number in range(RUNS)]

    def parsed(run: StageRecord) -> str:
        return moves.context(run).run_id

    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(parsed, runs)) == [run.run_id for run in runs]
