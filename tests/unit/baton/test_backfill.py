"""A backfill: one run for each source, no more in flight than allowed, and nothing forgotten or doubled by stopping."""

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baton.backfill.driver import Standing
from baton.backfill.plan import check_id, default_id, run_id
from baton.backfill.sources import sources_of
from baton.backfill.store import STALE
from baton.dlq.archive import Summary
from baton.dlq.letter import LetterState
from baton.errors import InUse, NotKnown, Refused
from baton.runs import RunState
from messages.events import is_run_id
from tests.support.backfill_desk import NOW, Desk, Stopped, plan


@pytest.fixture
def desk() -> Desk:
    return Desk()


# -- the plan ---------------------------------------------------------------------------------------------------------


@given(st.text(min_size=1, max_size=80).map("gs://b/".__add__))
@settings(max_examples=50)
def test_a_source_gives_one_run_id_for_ever(source: str) -> None:
    """A run id, the same whenever it is asked, another in another backfill."""
    first = run_id("a" * 30, source)
    assert is_run_id(first)
    assert first == run_id("a" * 30, source)
    assert first != run_id("b", source)
    assert first.startswith("a" * 30 + "-")


def test_the_same_command_is_the_same_backfill() -> None:
    """Whatever the order of its sources; other parameters are another."""
    first = default_id("p", {"limit": 1}, ["gs://b/1", "gs://b/2"])
    assert first == default_id("p", {"limit": 1}, ["gs://b/2", "gs://b/1"])
    assert first != default_id("p", {"limit": 2}, ["gs://b/1", "gs://b/2"])
    assert check_id(first) == first
    for wrong in ("", "-a", "A", "1a", "a" * 31, "a/b"):
        with pytest.raises(Refused):
            check_id(wrong)


def test_sources_are_uris_patterns_and_lists(tmp_path: Path) -> None:
    """Each once, in order; comments and empty lines of a list are none."""
    objects = {"data": ["a-1.csv", "a-2.csv", "a-dir/", "b.csv", "other/a-3.csv"]}

    def names(bucket: str, prefix: str) -> list[str]:
        return [name for name in objects[bucket] if name.startswith(prefix)]

    listed = tmp_path / "list.txt"
    listed.write_text("# births\n\ngs://data/b.csv\ngs://data/a-*.csv\nbq://p.d.t\n")
    assert sources_of([str(listed), "gs://data/a-1.csv"], names) == [
        "gs://data/b.csv",
        "gs://data/a-1.csv",
        "gs://data/a-2.csv",
        "bq://p.d.t",
    ]
    assert sources_of(["gs://data/a-[2]*"], names) == ["gs://data/a-2.csv"]


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("missing.txt", "cannot be read as a list"),
        ("gs://data/x-*", "no object matches"),
        ("http://data/x", "is no source"),
        ("s3://data/x", "is no source"),
    ],
)
def test_a_word_that_stands_for_no_source_is_refused(word: str, says: str) -> None:
    """Before anything is started."""
    with pytest.raises(Refused, match=says):
        sources_of([word], lambda bucket, prefix: [])
    with pytest.raises(Refused, match="no source"):
        sources_of([], lambda bucket, prefix: [])


def test_a_plan_grows_and_does_not_change(desk: Desk) -> None:
    """New sources are added; another pipeline or other parameters need another name."""
    store = desk.store()
    store.keep_plan(plan("gs://b/1"))
    assert store.keep_plan(plan("gs://b/2", "gs://b/1")).sources == ("gs://b/1", "gs://b/2")
    assert desk.store().plan("b").sources == ("gs://b/1", "gs://b/2")
    with pytest.raises(Refused, match="params"):
        store.keep_plan(plan("gs://b/1", params={"limit": 1}))
    with pytest.raises(NotKnown) as told:
        store.plan("other")
    assert "it knows b" in told.value.mend


# -- the driver -------------------------------------------------------------------------------------------------------


def test_no_more_are_in_flight_than_allowed(desk: Desk) -> None:
    """And all of them are run, once each."""
    sources = [f"gs://b/{n}" for n in range(7)]
    standing = desk.drive(plan(*sources), desk.end_all, concurrency=3)
    assert desk.runs.most == 3
    assert len(desk.runs.published) == len(set(desk.runs.published)) == 7
    assert standing.counts == {"succeeded": 7}
    assert standing.to_json()["not_succeeded"] == []


@pytest.mark.parametrize("moment", [1, 2, 3, 4])
def test_what_was_stopped_goes_on_and_runs_nothing_twice(desk: Desk, moment: int) -> None:
    """Stopped after any look: the next driver starts what was not started, and watches what is in flight."""
    looks = 0

    def stop(standing: Standing) -> None:
        nonlocal looks
        looks += 1
        if looks == moment:
            raise Stopped
        desk.end_all(standing)

    of = plan(*(f"gs://b/{n}" for n in range(5)))
    with pytest.raises(Stopped):
        desk.drive(of, stop)
    standing = desk.drive(of, desk.end_all)
    assert standing.counts == {"succeeded": 5}
    assert len(desk.runs.published) == len(set(desk.runs.published)) == 5
    assert desk.runs.most <= 2


def test_a_driver_that_died_without_a_word_is_followed_when_it_is_stale(desk: Desk) -> None:
    """kill -9 leaves its name in the ledger: another is refused for half a minute, or takes over."""
    of = plan("gs://b/1", "gs://b/2", "gs://b/3")
    desk.store().take("b", desk.clock.now)
    with pytest.raises(InUse, match="driver-1") as told:
        desk.drive(of, desk.end_all)
    assert f"{desk.clock.now + STALE:%H:%M:%S} UTC" in told.value.mend
    desk.clock.move(STALE.total_seconds() + 1)
    assert desk.drive(of, desk.end_all).counts == {"succeeded": 3}


def test_one_that_was_taken_over_stops(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It notices at its next save; what it had started the other one watches."""
    monkeypatch.setattr("baton.backfill.driver._SAVE_S", 0.0)
    of = plan(*(f"gs://b/{n}" for n in range(4)))

    def be_taken_over(standing: Standing) -> None:
        desk.store().take("b", desk.clock.now, take_over=True)

    with pytest.raises(InUse, match="taken over by driver-2"):
        desk.drive(of, be_taken_over)
    desk.clock.move(STALE.total_seconds() + 1)
    assert desk.drive(of, desk.end_all).counts == {"succeeded": 4}
    assert len(desk.runs.published) == len(set(desk.runs.published)) == 4


def test_failures_are_told_and_tried_again_on_demand(desk: Desk) -> None:
    """Under the retry's own id; those that succeeded are left alone."""
    of = plan("gs://b/good", "gs://b/bad")
    bad = run_id("b", "gs://b/bad")

    def end(standing: Standing) -> None:
        for name in standing.in_flight.values():
            desk.runs.end(name, RunState.FAILED if name == bad else RunState.SUCCEEDED)

    first = desk.drive(of, end)
    assert first.counts == {"succeeded": 1, "failed": 1}
    (row,) = first.to_json()["not_succeeded"]
    assert (row["source"], row["reason"]) == ("gs://b/bad", "preprocess: broken")
    unchanged = desk.drive(of, end)
    assert unchanged.counts == {"succeeded": 1, "failed": 1}
    assert unchanged.reasons[bad] == "preprocess: broken", "looked up for whoever asks later"
    mended = desk.drive(of, end, retry_failed=True)
    assert mended.counts == {"succeeded": 2}
    assert mended.again == {bad: f"{bad}-r2"}
    assert len(desk.runs.published) == 2


def test_a_retry_that_a_dead_driver_had_begun_is_not_begun_again(desk: Desk) -> None:
    """It published the retry and died before it could write that down."""
    of = plan("gs://b/bad")
    bad = run_id("b", "gs://b/bad")
    desk.drive(of, lambda standing: desk.end_all(standing, RunState.FAILED))
    desk.runs.retry(bad)
    standing = desk.drive(of, desk.end_all, retry_failed=True)
    assert standing.again == {bad: f"{bad}-r2"}
    assert standing.counts == {"succeeded": 1}


def test_a_source_whose_event_was_put_aside_does_not_hang_the_others(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends as dead-lettered, with the letter to look at."""
    monkeypatch.setattr("baton.backfill.driver._UNCLAIMED_S", 0.0)
    of = plan("gs://b/refused", "gs://b/good")
    name = run_id("b", "gs://b/refused")
    desk.runs.letters = [Summary("77", LetterState.OPEN, "data-ready", name, "limit = -1", NOW)]
    standing = desk.drive(of, desk.end_all, concurrency=1)
    assert standing.counts == {"succeeded": 1, "dead-lettered": 1}
    assert standing.reasons[name] == "limit = -1 (baton dlq show 77)"


@pytest.mark.parametrize("retry_failed", [False, True])
def test_a_dead_letter_that_was_sent_back_counts_as_what_came_of_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, retry_failed: bool
) -> None:
    """Whether it goes on or has succeeded: there is nothing to try again."""
    monkeypatch.setattr("baton.backfill.driver._UNCLAIMED_S", 0.0)
    of = plan("gs://b/refused-1", "gs://b/refused-2")
    names = [run_id("b", source) for source in of.sources]
    desk.runs.letters = [Summary(name, LetterState.OPEN, "data-ready", name, "limit = -1", NOW) for name in names]
    assert desk.drive(of, lambda standing: None).counts == {"dead-lettered": 2}
    for name in names:
        desk.runs._begin(name)
    desk.runs.end(names[0])
    standing = desk.drive(of, desk.end_all, retry_failed=retry_failed)
    assert standing.counts == {"succeeded": 2}
    assert standing.again == {}


def test_one_that_was_cancelled_before_it_began_keeps_none_of_the_others(desk: Desk) -> None:
    """It cannot be tried again, and says why."""
    of = plan("gs://b/1", "gs://b/2", "gs://b/3")
    never, *others = (run_id("b", source) for source in of.sources)
    desk.runs.cancel_unclaimed(never)
    desk.drive(of, lambda standing: desk.end_all(standing, RunState.FAILED))
    standing = desk.drive(of, desk.end_all, retry_failed=True, concurrency=1)
    assert standing.counts == {"succeeded": 2, "cancelled": 1}
    assert "before a worker claimed it" in standing.reasons[never]
    assert set(standing.again) == set(others)


def test_progress_outlives_its_driver(desk: Desk) -> None:
    """What has ended is written down: a later look reads it, and needs no run to be looked at."""
    of = plan("gs://b/1", "gs://b/2")
    desk.drive(of, desk.end_all)
    progress = desk.store().progress("b")
    assert progress is not None
    assert (progress.driver, set(progress.ended.values())) == ("", {"succeeded"})
    desk.runs.states.clear()
    assert desk.drive(of, desk.end_all).counts == {"succeeded": 2}
    assert progress.beat - NOW < timedelta(days=365_000)


def test_a_retry_that_nobody_noted_is_followed_without_being_asked_for(desk: Desk) -> None:
    """Its driver had begun it, and died: whoever resumes watches it, rather than the run that has failed."""
    of = plan("gs://b/bad", "gs://b/good", "gs://b/late")
    bad = run_id("b", "gs://b/bad")

    def die(standing: Standing) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        desk.drive(of, die, concurrency=1)
    desk.runs.end(bad, RunState.FAILED)
    desk.runs.retry(bad)
    standing = desk.drive(of, desk.end_all, concurrency=1)
    assert standing.counts == {"succeeded": 3}
    assert standing.again == {bad: f"{bad}-r2"}
    assert desk.runs.most == 1, "it counts as in flight"


def test_fifty_thousand_sources_cost_a_look_what_ten_do(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their runs are named once, and no look goes through those that wait."""
    named = 0

    def counted(backfill: str, source: str) -> str:
        nonlocal named
        named += 1
        return run_id(backfill, source)

    monkeypatch.setattr("baton.backfill.plan.run_id", counted)
    looks = 0

    def look(standing: Standing) -> None:
        nonlocal looks
        looks += 1
        if looks == 20:
            raise Stopped
        assert standing.failures == 0
        desk.end_all(standing)

    with pytest.raises(Stopped):
        desk.drive(plan(*(f"gs://b/{n}" for n in range(50_000))), look, concurrency=10)
    assert named == 50_000
    assert len(desk.runs.published) == 200


def test_runs_that_nobody_has_claimed_yet_are_not_read_at_every_look(desk: Desk) -> None:
    """A thousand events that wait for a worker would cost a thousand reads a look; when claimed, their markers tell."""
    looks = 0

    def look(standing: Standing) -> None:
        nonlocal looks
        looks += 1
        if looks == 30:
            raise Stopped

    with pytest.raises(Stopped):
        desk.drive(plan(*(f"gs://b/refused-{n}" for n in range(100))), look, concurrency=100, look_s=0.005)
    assert 100 <= len(desk.runs.looked) <= 100 * looks / 3
