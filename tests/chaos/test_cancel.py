"""`baton cancel` at random instants of real runs: nothing of them runs any more within seconds, and nothing new begins.

`make chaos SEED=…` cancels fifty.
"""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from messages import DataReady, Envelope, encode
from tests.chaos.verdict import (
    Evidence,
    deployments_are_of_served_runs,
    gather,
    nothing_is_left,
    one_job_an_attempt,
)
from tests.support.audit import settled_audit
from tests.support.house import ROOT, WORKERS, House, house
from tests.support.waiting import wait_until
from workers.endpoint import deployed_model_id_of

CANCELS = int(os.environ.get("CHAOS_CANCELS", "8"))
SEED = int(os.environ.get("CHAOS_SEED", "20261127"))
SECONDS = 20.0  # "within seconds", on two cores that start a command for each run at the same time
AT_ONCE = 3
# A command needs seconds to start when others do too: some start before their run, so that the cancellation meets its first
# moments, and the runs last long enough for it to meet the last.
_EARLIEST_S, _LATEST_S = -3.0, 3.0
_JOB_S = 1.5
_TRIES = 4  # so many runs for each that shall be cancelled: the others end before


@dataclass
class Case:
    """One run and the command that shall cancel it."""

    run_id: str
    publish_at: float
    cancel_at: float
    is_published: bool = False
    command: subprocess.Popen[str] | None = None
    took_s: float = 0.0
    began: float = field(default=0.0)

    @property
    def is_over(self) -> bool:
        return self.is_published and self.command is not None and self.command.poll() is not None


class Canceller:
    """Keeps a few runs going and cancels each at its instant."""

    def __init__(self, home: House, seed: int) -> None:
        self._home = home
        self._chance = random.Random(seed)
        self._started = 0
        self._open: list[Case] = []
        self.cancelled: dict[str, float] = {}  # run id -> seconds from the start of the command to its end
        self.too_late: list[str] = []

    def tick(self) -> bool:
        """Do what is due; tell whether all that shall be cancelled are."""
        while len(self._open) < AT_ONCE and len(self.cancelled) + len(self._open) < CANCELS:
            self._open.append(self._case())
        now = time.monotonic()
        for case in list(self._open):
            self._further(case, now)
        return len(self.cancelled) >= CANCELS and not self._open

    def _case(self) -> Case:
        assert self._started < CANCELS * _TRIES, f"only {len(self.cancelled)} of {self._started} could be cancelled"
        lag_s, now = self._chance.uniform(_EARLIEST_S, _LATEST_S), time.monotonic()
        self._started += 1
        return Case(f"cancel-{self._started}", now + max(0.0, -lag_s), now + max(0.0, lag_s))

    def _further(self, case: Case, now: float) -> None:
        if not case.is_published and now >= case.publish_at:
            event = DataReady(pipeline="quick", source="gs://data/births.csv")
            envelope = Envelope(f"{case.run_id}.data-ready", case.run_id, "//chaos", datetime.now(UTC), event)
            self._home.publish("data-ready", *encode(envelope))
            case.is_published = True
        if case.command is None and now >= case.cancel_at:
            case.began = now
            case.command = subprocess.Popen(
                [sys.executable, "-m", "baton", "cancel", case.run_id, "--unclaimed", "--json"],
                cwd=ROOT,
                env=self._home.env(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        if case.is_over:
            self._open.remove(case)
            self._note(case, now)

    def _note(self, case: Case, now: float) -> None:
        assert case.command is not None
        out, err = case.command.communicate(timeout=10)
        if case.command.returncode == 0:
            (run,) = json.loads(out)
            assert run["state"] == "cancelled", out
            self.cancelled[case.run_id] = now - case.began
        else:
            assert "succeeded already" in err or '"succeeded"' in out, (case.command.returncode, out, err)
            self.too_late.append(case.run_id)


@pytest.mark.timeout(60 + 15 * CANCELS)
def test_a_cancelled_run_leaves_nothing_running(tmp_path: Path) -> None:
    """At whatever instant: no running job, no deployment, no later stage, no marker; and the audit balances."""
    print(f"seed {SEED}, {CANCELS} cancellations")
    began = time.monotonic()
    with house(tmp_path, job_s=_JOB_S) as home:
        home.start()
        canceller = Canceller(home, SEED)
        wait_until(canceller.tick, 30 + 10 * CANCELS, f"{CANCELS} cancellations of seed {SEED}")
        wrong = list(wrong_with(home, canceller))
        settled_audit(home)
        where = [stopped_at(gather(home), run_id) for run_id in canceller.cancelled]
    slowest_s = max(canceller.cancelled.values())
    print(
        f"seed {SEED}: {len(canceller.cancelled)} cancelled, { ({s: where.count(s) for s in sorted(set(where))}) }, "
        f"{len(canceller.too_late)} had ended before; slowest command {slowest_s:.1f} s; "
        f"whole test {time.monotonic() - began:.0f} s"
    )
    assert not wrong, f"seed {SEED}:\n" + "\n".join(wrong)
    assert slowest_s < SECONDS


def wrong_with(home: House, canceller: Canceller) -> Iterator[str]:
    """Yield what is wrong at once: the command has said that nothing runs any more. Markers may take a sweep longer."""
    found = gather(home)
    found.markers = []
    yield from (*one_job_an_attempt(found), *nothing_is_left(found), *deployments_are_of_served_runs(found))
    deployed = {model["id"] for e in found.endpoints.values() for model in e.get("deployedModels", [])}
    for run_id in canceller.cancelled:
        if {deployed_model_id_of(run_id, attempt) for attempt in (1, 2)} & deployed:
            yield f"a model of the cancelled run {run_id} is deployed"
        yield from _later_stages(found, run_id)
    try:
        wait_until(lambda: not gather(home).markers, SECONDS, "no marker to be left")
    except AssertionError as fault:
        yield str(fault)


def _later_stages(found: Evidence, run_id: str) -> Iterator[str]:
    stages = [stage for stage in WORKERS if (run_id, stage) in found.records]
    outcomes = [found.records[run_id, stage].get("outcome") for stage in stages]
    if outcomes.count("cancelled") < 1 and outcomes:
        yield f"run {run_id} is cancelled, but its stages ended {dict(zip(stages, outcomes, strict=True))}"
    first = outcomes.index("cancelled") if "cancelled" in outcomes else len(stages)
    for stage in stages[first + 1 :]:
        record = found.records[run_id, stage]
        if record.get("job") or record.get("outcome") != "cancelled":
            yield f"{stage} of {run_id} began after the cancellation: {record['history']}"


def stopped_at(found: Evidence, run_id: str) -> str:
    """Return the stage at which a cancelled run stopped, or "unclaimed"."""
    stages = [stage for stage in WORKERS if (run_id, stage) in found.records]
    ended = [stage for stage in stages if found.records[run_id, stage].get("outcome") == "cancelled"]
    return ended[0] if ended else "unclaimed"
