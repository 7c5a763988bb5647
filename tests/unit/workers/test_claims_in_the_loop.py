"""A claim reaches the engine, whoever has found its record in the meantime."""

from pathlib import Path

from tests.support.loops import SETTINGS, Delivered, HandHost
from tests.support.stage_world import StageWorld
from workers.loop import Loop
from workers.settings import Settings
from workers.stage import JobState


def test_a_claim_that_a_sweep_has_found_first_is_launched_at_once(tmp_path: Path) -> None:
    """The sweep leaves the intent to its writer; the writer, told that the run is busy, must not lose its claim by that."""
    world, host = StageWorld(tmp_path), HandHost()
    loop = Loop(world.stage, world.engine(), world.intake(), Settings.from_environment(SETTINGS), host)
    message = world.message()
    arrived = Delivered(message.data, message.attributes)
    loop.on_message(arrived)
    loop._take_up(["r1"])  # the marker was there when the sweep looked; its thread has not read the record yet
    host.loop_goes_on()
    host.threads_go_on()
    assert world.jobs[0].jobs == {}
    host.loop_goes_on()
    host.threads_go_on()
    assert arrived.answers == ["ack"]
    assert world.jobs[0].states() == [JobState.ACTIVE]
    host.loop_goes_on()
    assert not loop._claims


def test_a_job_need_not_wait_for_the_acknowledgement(tmp_path: Path) -> None:
    """The claim is enough: whatever becomes of the message now, it is a duplicate of it."""
    world, host = StageWorld(tmp_path), HandHost()
    loop = Loop(world.stage, world.engine(), world.intake(), Settings.from_environment(SETTINGS), host)
    message = world.message()

    class Watched(Delivered):
        def ack(self) -> None:
            host.loop_goes_on()
            host.threads_go_on()
            assert world.jobs[0].states() == [JobState.ACTIVE]
            super().ack()

    arrived, again = Watched(message.data, message.attributes), Delivered(message.data, message.attributes)
    loop.on_message(arrived)
    loop.on_message(again)
    host.loop_goes_on()
    host.threads_go_on()
    assert arrived.answers == again.answers == ["ack"]
    assert world.jobs[0].states() == [JobState.ACTIVE]
