"""Plays one history and judges it; the workers' log is silent, but what they report as unexpected counts as wrong."""

import gc
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog

from tests.simulation.history import Script, World, build, play
from tests.simulation.invariants import judge
from tests.simulation.network import Trace
from tests.simulation.scenario import Scenario
from tests.simulation.worker import Make

_COLLECT_EVERY = 50
_played = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a history: the faults that happened in it, and what was wrong, if anything."""

    scenario: Scenario
    happened: Script
    wrong: tuple[str, ...]
    ended_at: float
    jobs: int


class _Silent:
    """A logger that says nothing, and keeps the tracebacks of what nobody had thought of."""

    errors: list[str] = []  # noqa: RUF012 - one history at a time, in one thread

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def bind(self, **_: Any) -> "_Silent":
        return self

    def _say(self, *_: Any, **__: Any) -> None:
        return

    debug = info = warning = error = log = _say

    def exception(self, event: str, **_: Any) -> None:
        self.errors.append(f"{event}: {traceback.format_exc(limit=-6)}")


@contextmanager
def muted() -> Iterator[None]:
    """Silence the workers' log while histories are played."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=_Silent, cache_logger_on_first_use=False)
    gc_was_on = gc.isenabled()
    gc.freeze()
    gc.disable()  # tasks of dead processes are full of cycles; they are collected between histories
    try:
        yield
    finally:
        structlog.configure(**before)
        if gc_was_on:
            gc.unfreeze()
            gc.enable()


def try_scenario(
    scenario: Scenario, make: Make | None = None, script: Script | None = None, trace: Trace | None = None
) -> Verdict:
    """Play the scenario (in `muted`) and judge it."""
    _Silent.errors = []
    world: World = build(scenario, make, script, trace)
    world.parts.errors = _Silent.errors
    global _played
    _played += 1
    if _played % _COLLECT_EVERY == 0:
        gc.collect()
    play(world)
    wrong = tuple(judge(world))
    world.scheduler.close()
    return Verdict(scenario, dict(world.faults.happened), wrong, world.scheduler.now, len(world.jobs))
