"""A backfill that is cancelled: what is in flight stops, nothing more is started, and nobody else starts it either."""

import pytest

from baton.backfill.driver import Standing
from baton.backfill.plan import run_id
from baton.errors import InUse
from baton.runs import RunState
from tests.support.backfill_desk import Desk, Stopped, plan


@pytest.fixture
def desk() -> Desk:
    return Desk()


def stop_at_once(_: Standing) -> None:
    raise Stopped


def test_a_cancelled_backfill_stops_what_is_in_flight_and_starts_nothing(desk: Desk) -> None:
    """What has ended stays as it ended; what was not started can be resumed."""
    of = plan(*(f"gs://b/{n}" for n in range(6)))
    first, second, *waiting = (run_id("b", source) for source in of.sources)
    with pytest.raises(Stopped):
        desk.drive(of, stop_at_once)
    desk.runs.end(first)
    standing = desk.cancel(of)
    assert desk.runs.cancelled == [first, second]
    assert standing.counts == {"succeeded": 1, "cancelled": 1}
    assert list(standing.waiting) == waiting
    assert len(desk.runs.published) == 2
    assert desk.drive(of, desk.end_all).counts == {"succeeded": 5, "cancelled": 1}


def test_the_retry_that_is_in_flight_is_the_one_that_is_cancelled(desk: Desk) -> None:
    """Its first run has ended long ago."""
    of = plan("gs://b/bad")
    bad = run_id("b", "gs://b/bad")
    desk.drive(of, lambda standing: desk.end_all(standing, RunState.FAILED))
    with pytest.raises(Stopped):
        desk.drive(of, stop_at_once, retry_failed=True)
    assert desk.cancel(of).counts == {"cancelled": 1}
    assert desk.runs.cancelled == [f"{bad}-r2"]


def test_a_driver_that_does_not_know_yet_is_sent_away_and_its_runs_are_cancelled(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It starts runs until its next save; until then the one who cancels looks for them."""
    monkeypatch.setattr("baton.backfill.driver._SAVE_S", 0.05)
    of, looks = plan(*(f"gs://b/{n}" for n in range(4))), 0
    begun = [run_id("b", source) for source in of.sources]
    other = desk.store()
    desk.runs.publish_data_ready("gs://b/0", run_id=begun[0])
    other.take("b", desk.clock.now)

    def start_one_more(standing: Standing) -> None:
        nonlocal looks
        looks += 1
        if looks == 1:
            desk.runs.publish_data_ready("gs://b/1", run_id=begun[1])

    standing = desk.cancel(of, start_one_more)
    assert desk.runs.cancelled == begun[:2]
    assert standing.counts == {"cancelled": 2}
    assert list(standing.waiting) == begun[2:]
    progress = other.progress("b")
    assert progress is not None
    with pytest.raises(InUse, match="taken over"):
        other.save("b", progress, desk.clock.now)


def test_a_backfill_that_is_over_has_nothing_to_cancel(desk: Desk) -> None:
    """Nor one that was never begun."""
    of = plan("gs://b/1")
    assert desk.cancel(of).counts == {}
    desk.drive(of, desk.end_all)
    assert desk.cancel(of).counts == {"succeeded": 1}
    assert desk.runs.cancelled == []
