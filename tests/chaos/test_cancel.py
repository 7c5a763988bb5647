"""`baton cancel` at random instants of real runs: nothing of them runs any more within seconds, and nothing new begins.

`make chaos SEED=…` cancels fifty.
"""

import contextlib
import io
import json
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from baton.__main__ import run
from baton.client import Client
from baton.errors import EXIT_OK
from baton.profile import Profile
from baton.runs import RunState
from tests.chaos.verdict import (
    ENDED,
    Evidence,
    deployments_are_of_served_runs,
    gather,
    jobs_of,
    nothing_is_left,
    one_job_an_attempt,
)
from tests.support.audit import settled_audit
from tests.support.house import WORKERS, House, house
from tests.support.waiting import wait_until
from workers.endpoint import deployed_model_id_of

CANCELS = int(os.environ.get("CHAOS_CANCELS", "6"))
SEED = int(os.environ.get("CHAOS_SEED", "20261127"))
SECONDS = 20.0  # "within seconds", on two cores that have other work to do
AT_ONCE = 4
_JOB_S = 0.8
_LIVES = 2.0  # the latest instant, in lives of a run that had the machine for itself: these share it
_LOOK_S = 0.1
_TRIES = 5  # so many runs for each that shall be cancelled: the others end before


@dataclass
class Case:
    """One run, and when it shall be cancelled."""

    run_id: str
    cancel_at: float
    next_look: float = 0.0
    asked_at: float = 0.0


class Canceller:
    """Keeps a few runs going and cancels each at its instant, by the command, in this process."""

    def __init__(self, home: House, client: Client, seed: int, life_s: float) -> None:
        self._home = home
        self._client = client
        self._chance = random.Random(seed)
        self._latest_s = _LIVES * life_s
        self._started = 0
        self._open: list[Case] = []
        self.cancelled: dict[str, float] = {}  # run id -> seconds from the command until nothing of it ran
        self.too_late: list[str] = []

    def tick(self) -> bool:
        """Do what is due; tell whether all that shall be cancelled are."""
        while len(self._open) < AT_ONCE and len(self.cancelled) + len(self._open) < CANCELS:
            self._open.append(self._start())
        for case in list(self._open):
            if not case.asked_at and time.monotonic() >= case.cancel_at:
                self._cancel(case)
            elif case.asked_at and time.monotonic() >= case.next_look:
                self._look(case)
        return len(self.cancelled) >= CANCELS and not self._open

    def _start(self) -> Case:
        assert self._started < CANCELS * _TRIES, f"only {len(self.cancelled)} of {self._started} could be cancelled"
        self._started += 1
        run_id = f"cancel-{self._started}"
        self._home.start_run(run_id)
        return Case(run_id, time.monotonic() + self._chance.uniform(0, self._latest_s))

    def _cancel(self, case: Case) -> None:
        case.asked_at = time.monotonic()
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(["cancel", case.run_id, "--unclaimed", "--no-wait", "--json"])
        if code == EXIT_OK:
            assert json.loads(out.getvalue())[0]["id"] == case.run_id
            return
        assert "succeeded already" in err.getvalue(), (code, out.getvalue(), err.getvalue())
        self._open.remove(case)
        self.too_late.append(case.run_id)

    def _look(self, case: Case) -> None:
        state = self._client.look(case.run_id).state
        case.next_look = time.monotonic() + _LOOK_S
        if not state.is_final:
            return
        self._open.remove(case)
        if state is not RunState.CANCELLED:
            assert state is RunState.SUCCEEDED, state  # its outcome was certain when the command came
            self.too_late.append(case.run_id)
            return
        self.cancelled[case.run_id] = time.monotonic() - case.asked_at
        active = [job for job in jobs_of(self._home, case.run_id) if job.state not in ENDED]
        assert not active, f"run {case.run_id} is said to be cancelled, but {active} run"


@pytest.mark.timeout(90 + 15 * CANCELS)
def test_a_cancelled_run_leaves_nothing_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At whatever instant: no running job, no deployment, no later stage, no marker; and the audit balances."""
    print(f"seed {SEED}, {CANCELS} cancellations")
    began, before = time.monotonic(), dict(os.environ)
    try:
        with house(tmp_path, job_s=_JOB_S) as home:
            home.start()
            with Client(Profile(home.env(), home=tmp_path, source="the test")) as client:
                monkeypatch.setattr("baton.client.Client", lambda profile=None: client)
                canceller = Canceller(home, client, SEED, [life_s(client), life_s(client)][-1])
                wait_until(canceller.tick, 60 + 12 * CANCELS, f"{CANCELS} cancellations of seed {SEED}")
            wrong = list(wrong_with(home, canceller))
            settled_audit(home)
            where = [stopped_at(gather(home), run_id) for run_id in canceller.cancelled]
    finally:
        os.environ.clear()  # the client sets what its libraries read there
        os.environ.update(before)
    slowest_s = max(canceller.cancelled.values())
    print(
        f"seed {SEED}: {len(canceller.cancelled)} cancelled in { ({s: where.count(s) for s in sorted(set(where))}) }, "
        f"{len(canceller.too_late)} had ended before; the slowest had stopped after {slowest_s:.1f} s; "
        f"whole test {time.monotonic() - began:.0f} s"
    )
    assert not wrong, f"seed {SEED}:\n" + "\n".join(wrong)
    assert slowest_s < SECONDS


def life_s(client: Client) -> float:
    """Return how long a run lives that nobody cancels; the first one also waits for the workers to be there."""
    began = time.monotonic()
    served = client.wait(client.publish_data_ready("gs://data/births.csv", "quick"), timeout_s=60)
    assert served.state is RunState.SUCCEEDED
    return time.monotonic() - began


def wrong_with(home: House, canceller: Canceller) -> Iterator[str]:
    """Yield what is wrong by now; the markers may take a sweep longer."""
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
    if outcomes == ["succeeded"] * len(WORKERS) or "failed" in outcomes:
        yield f"run {run_id} is cancelled, but its stages ended {dict(zip(stages, outcomes, strict=True))}"
    first = outcomes.index("cancelled") if "cancelled" in outcomes else len(stages)
    for stage in stages[first + 1 :]:
        record = found.records[run_id, stage]
        if record.get("job") or record.get("outcome") != "cancelled":
            yield f"{stage} of {run_id} began after the cancellation: {record['history']}"


def stopped_at(found: Evidence, run_id: str) -> str:
    """Return the stage at which a cancelled run stopped, or before which."""
    for stage in WORKERS:
        outcome = found.records.get((run_id, stage), {}).get("outcome")
        if outcome is None:
            return f"before {stage}"
        if outcome == "cancelled":
            return stage
    return "after all"
