"""What many threads share while they move many runs."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.stage_world import StageWorld
from workers.errors import PipelineError
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


def test_a_run_that_a_newer_version_claimed_is_carried_on(tmp_path: Path) -> None:
    """Keys that this version does not know are left out at every level; free tables keep theirs."""
    world = StageWorld(tmp_path)
    world.intake().accept(world.message())
    record = world.record()
    newer = {
        **record.config,
        "preprocess": {**record.config["preprocess"], "spot": True, "options": {"of_its_own": 1}},
        "monitor": {"every_s": 60},
        "train": {"image": "trainer", "mesh": {"axes": [1, 2]}},
        "deploy": None,
    }
    moves = Moves(world.stage, world.ledger, world.clock, "w", Policy())
    spec = moves.context(record.model_copy(update={"config": newer})).spec
    assert spec.preprocess is not None
    assert spec.preprocess.options == {"of_its_own": 1}
    assert spec.train is not None
    assert spec.train.image == "trainer"


def test_a_key_that_nobody_knows_stays_an_error_in_a_toml(tmp_path: Path) -> None:
    """There it is a slip of the pen."""
    world = StageWorld(tmp_path)
    (tmp_path / "p.toml").write_text('name = "p"\n[preprocess]\ntemplate = "t.json"\nspot = true\n')
    with pytest.raises(PipelineError, match="this key is not known"):
        world.catalog.get("p")
