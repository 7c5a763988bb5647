"""The soak of `bench.pubsub.million` at CI's size: nothing lost, nothing again after its ack, with kills on the way."""

import asyncio
import random
from pathlib import Path

from bench.pubsub.ledger import Fate, Ledger
from bench.pubsub.million import Plan, soak


def test_killed_broker_loses_nothing_and_repeats_no_acked_message(tmp_path: Path) -> None:
    """Three competing subscribers get every answered publish, and none again after its exactly-once ack, over 5 kills."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    report = asyncio.run(soak(Plan(messages=20_000, kills=5, seed=seed, stall_s=20), tmp_path))
    assert report.violations == []
    assert report.lost == []
    assert report.unseen == 0
    assert report.kills == 5
    assert report.published == 20_000


def test_ledger_notices_a_lost_message_and_one_that_comes_again() -> None:
    """The account itself would show either fault: a soak that can't fail proves nothing."""
    ledger = Ledger(3)
    for number, message_id in enumerate(("a", "b", "c")):
        ledger.delivered(message_id, ledger.payload(number))
    ledger.published(["a", "b", "c", "lost"])
    ledger.acked(["a"], Fate.ACKED)
    ledger.acked(["b"], Fate.UNKNOWN)
    ledger.delivered("b", ledger.payload(1))
    assert ledger.violations == []
    ledger.delivered("a", ledger.payload(0))
    assert len(ledger.violations) == 1
    assert "message a" in ledger.violations[0]
    assert ledger.missing == ["c", "lost"]
    ledger.delivered("d", b"nobody's")
    assert len(ledger.violations) == 2
