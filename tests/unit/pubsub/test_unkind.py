"""Unkind mode: misfortune within the promises, and never beyond them."""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from localcloud.pubsub.errors import Unavailable
from localcloud.pubsub.unkind import Unkind
from tests.unit.pubsub.lab import Lab


class UnkindLab(Lab):
    """A lab whose broker is unkind."""

    def _open(self) -> None:
        super()._open()
        self.broker.unkind = Unkind(7)

    def publish_all(self, count: int, key: str = "") -> None:
        for index in range(count):
            with suppress(Unavailable):  # kept all the same
                self.publish(str(index), key=key)

    def drain(self) -> list[str]:
        """Take and ack until nothing comes any more; answers every delivery."""
        seen: list[str] = []
        for _ in range(400):
            taken = self.take()
            seen += [item.data for item in taken]
            failed = self.ack(*taken)
            while failed:
                failed = self.ack(*[item for item in taken if item.ack_id in failed])
            if not taken:
                self.advance(11)
                if not self.subscription().leases.by_seq and not self.take():
                    return seen
        raise AssertionError("the backlog never ends")


@pytest.fixture
def unkind(tmp_path: Path) -> Iterator[UnkindLab]:
    made = UnkindLab(tmp_path)
    yield made
    made.close()


def test_at_least_once_is_no_more_than_that(unkind: UnkindLab) -> None:
    """Every message comes, some twice, not in order; and all ends."""
    unkind.subscribe()
    unkind.publish_all(500)
    counts = Counter(seen := unkind.drain())
    assert set(counts) == {str(index) for index in range(500)}
    assert max(counts.values()) > 1
    assert seen != sorted(seen, key=int)


def test_late_ack_never_counts(unkind: UnkindLab) -> None:
    """An ack after its deadline is answered OK, and the message comes again."""
    unkind.subscribe()
    unkind.publish_all(50)
    taken = unkind.take()
    unkind.advance(11)
    assert unkind.ack(*taken) == {}
    assert {item.data for item in taken} <= set(unkind.drain())


def test_exactly_once_holds(unkind: UnkindLab) -> None:
    """With exactly-once a message comes once; only acks fail for a moment."""
    unkind.subscribe(enable_exactly_once_delivery=True)
    unkind.publish_all(500)
    taken = unkind.take()
    failed = unkind.ack(*taken)
    assert failed
    assert all(reason.startswith("TRANSIENT") for reason in failed.values())
    while failed:
        failed = unkind.ack(*[item for item in taken if item.ack_id in failed])
    assert set(Counter(item.data for item in taken).values()) == {1}
    assert unkind.drain() == []


def test_keys_keep_their_order(unkind: UnkindLab) -> None:
    """Duplicates of a key come as a run from the repeated message on; new ones never overtake."""
    unkind.subscribe(enable_message_ordering=True)
    unkind.publish_all(200, key="k")
    seen = [int(item) for item in unkind.drain()]
    newest = -1
    for number in seen:
        assert number <= newest + 1
        newest = max(newest, number)
    assert newest == 199
    assert len(seen) > 200


def test_seed_repeats_the_run() -> None:
    """The same seed brings the same misfortune."""

    def story(seed: int) -> list[object]:
        unkind = Unkind(seed)
        return [(unkind.duplicates(), unkind.loses_ack(), tuple(unkind.shuffled([1, 2, 3, 4]))) for _ in range(100)]

    assert story(3) == story(3) != story(4)
