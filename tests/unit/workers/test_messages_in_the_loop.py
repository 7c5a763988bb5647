"""What the loop does with a message, with a cancellation, with a service that does not answer, and when it is to end."""

import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.loops import SETTINGS, Delivered, HandHost
from tests.support.stage_world import StageWorld
from workers.engine import Done, Next
from workers.errors import TransientError
from workers.host import Host
from workers.loop import Loop
from workers.settings import Settings
from workers.stage import JobState

SELDOM = {**SETTINGS, "BATON_SWEEP_S": "3600", "BATON_CANCEL_S": "3600", "BATON_POLL_MAX_S": "3600"}


@pytest.fixture
def world(tmp_path: Path) -> StageWorld:
    return StageWorld(tmp_path)


def loop_of(world: StageWorld, host: Host | None) -> Loop:
    return Loop(world.stage, world.engine(), world.intake(), Settings.from_environment(SELDOM), host)


def delivered(world: StageWorld) -> Delivered:
    message = world.message()
    return Delivered(message.data, message.attributes)


def go_on(host: HandHost) -> None:
    """Let everybody do what there is for them, until nothing is left."""
    while host.posted or host.work:
        host.loop_goes_on()
        host.threads_go_on()


@pytest.mark.parametrize(
    ("fault", "said"),
    [(TransientError("503"), "message-given-back"), (RuntimeError("a defect"), "message-failed")],
    ids=["the ledger is away", "a defect of ours"],
)
def test_a_message_that_could_not_be_kept_is_given_back(
    world: StageWorld, capsys: pytest.CaptureFixture[str], fault: Exception, said: str
) -> None:
    """Pub/Sub delivers it again, and then it is accepted."""

    def fail(moment: str, effect: str) -> None:
        if (moment, effect) == ("before", "write runs/r1/preprocess.json"):
            raise fault

    host = HandHost()
    loop, first, second = loop_of(world, host), delivered(world), delivered(world)
    world.objects.on_effect = fail
    loop.on_message(first)
    assert first.answers == ["nack"]
    assert said in capsys.readouterr().out
    go_on(host)
    assert world.jobs[0].jobs == {}
    world.objects.on_effect = lambda _moment, _effect: None
    loop.on_message(second)
    go_on(host)
    assert second.answers == ["ack"]
    assert world.jobs[0].states() == [JobState.ACTIVE]


def test_a_duplicate_has_its_run_carried_on(world: StageWorld) -> None:
    """Whoever claimed it may be dead: that the message comes again is the first sign of it, long before the next sweep."""
    world.intake("dead").accept(world.message())
    host = HandHost()
    loop, again = loop_of(world, host), delivered(world)
    loop.on_message(again)
    go_on(host)
    assert again.answers == ["ack"]
    assert world.jobs[0].states() == [JobState.ACTIVE]


def test_the_job_of_a_cancelled_run_is_looked_at_now(world: StageWorld) -> None:
    """Its own next look is an hour away."""
    host = HandHost()
    loop = loop_of(world, host)
    loop.on_message(delivered(world))
    go_on(host)
    loop._poll(host.now)
    assert not host.work, "it is not due yet"
    world.ledger.cancel("r1", "somebody", world.clock.now)
    loop._look_for_cancellations()
    host.loop_goes_on()
    loop._poll(host.now)
    host.threads_go_on()
    host.loop_goes_on()
    host.threads_go_on()
    assert world.jobs[0].states() == [JobState.CANCELLED]


def test_patience_grows_and_begins_anew(world: StageWorld) -> None:
    """A service that is away is asked less and less often, and once it has answered as often as at first."""
    host = HandHost()
    loop = loop_of(world, host)
    in_a_row: list[int] = []

    def away() -> Next:
        raise TransientError("503")

    def turn(step: Any) -> None:
        loop._work("r1", step)
        host.posted.clear()

    for step in (away, away, away, lambda: Done(None), away):
        turn(step)
        in_a_row.append(loop._failures.get("r1", 0))
    assert in_a_row == [1, 2, 3, 0, 1]


def test_it_ends_when_it_is_told_to(world: StageWorld) -> None:
    """And not when its next chore is due, an hour from now."""
    loop = loop_of(world, None)
    thread = threading.Thread(target=loop.run)
    thread.start()
    loop.stop()
    thread.join(20)
    assert not thread.is_alive()
