"""The broker against the model, over long random histories with time moved, restarts and kills among them.

`PUBSUB_HISTORIES=2000` runs more of them. A history that breaks a promise is printed with its seed; with PUBSUB_SEED set to
that and PUBSUB_SHRINK=1, Hypothesis looks for the shortest such history, which takes minutes.
"""

import asyncio
import os
import random

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.property.pubsub.histories import Histories, MovedTime, RealKills

SEED = int(os.environ.get("PUBSUB_SEED", random.SystemRandom().randrange(2**32)))
PHASES = (Phase.generate, Phase.shrink) if os.environ.get("PUBSUB_SHRINK") else (Phase.generate,)
HISTORIES = int(os.environ.get("PUBSUB_HISTORIES", "50"))


def _run(machine: type[Histories], histories: int, steps: int) -> None:
    print(f"PUBSUB_SEED={SEED}")
    with asyncio.Runner() as runner:
        machine.loop = runner.get_loop()
        run_state_machine_as_test(
            seed(SEED)(machine),
            settings=settings(
                max_examples=histories,
                stateful_step_count=steps,
                deadline=None,
                database=None,
                phases=PHASES,
                suppress_health_check=list(HealthCheck),
                print_blob=True,
            ),
        )


def test_broker_keeps_its_promises_over_random_histories() -> None:
    """Whatever clients do, whenever time moves and the broker stops or dies: what must come comes, nothing else does."""
    _run(MovedTime, HISTORIES, 80)


def test_broker_keeps_its_promises_when_its_process_is_killed() -> None:
    """The same with a real process and a real SIGKILL."""
    _run(RealKills, max(3, HISTORIES // 20), 40)
