"""The unkind truth: what the cloud may do to a client within its promises, done on purpose and often.

At-least-once subscriptions see messages twice, out of order, and again after an ack that was answered OK; an ack after the
deadline never counts. Exactly-once subscriptions see acks fail for a moment, and nothing else. Streams break, and publishes
succeed without an answer, so that the client publishes again. Ordering keys keep their order.
"""

import random
from typing import TypeVar

T = TypeVar("T")

_DUPLICATE = 0.10
_LOST_ACK = 0.05
_TRANSIENT_ACK = 0.05
_BROKEN_STREAM = 0.02
_LOST_ANSWER = 0.02


class Unkind:
    """Decides by a seeded generator, so that a run can be repeated."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._random = random.Random(seed)  # noqa: S311 - chosen misfortune, no secret

    def shuffled(self, items: list[T]) -> list[T]:
        """The items in some order."""
        return self._random.sample(items, len(items))

    def duplicates(self) -> bool:
        """Whether this delivery comes a second time."""
        return self._random.random() < _DUPLICATE

    def loses_ack(self) -> bool:
        """Whether this ack is answered OK and forgotten."""
        return self._random.random() < _LOST_ACK

    def fails_ack(self) -> bool:
        """Whether this exactly-once ack fails for the moment."""
        return self._random.random() < _TRANSIENT_ACK

    def breaks_stream(self) -> bool:
        """Whether the stream ends after this response."""
        return self._random.random() < _BROKEN_STREAM

    def loses_answer(self) -> bool:
        """Whether this publish is kept but answered UNAVAILABLE."""
        return self._random.random() < _LOST_ANSWER
