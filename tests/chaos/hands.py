"""Threads beside a test that end with it: what they do is asked to stop, and waited for."""

import threading
from types import TracebackType
from typing import Self

_PATIENCE_S = 60.0


class Hands:
    """A context manager whose threads run inside it; `work` looks at `stopping`.

    Args:
        hands: how many threads there are, each called with its number.
    """

    def __init__(self, hands: int) -> None:
        self.stopping = threading.Event()
        self._threads = [threading.Thread(target=self.work, args=(number,)) for number in range(hands)]

    def work(self, number: int) -> None:
        """What a thread does."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stopping.set()
        for thread in self._threads:
            thread.join(_PATIENCE_S)
