"""Wait for a condition with a deadline: the one way a test lets time pass."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], timeout_s: float = 10.0, what: str = "the condition") -> T:
    """Return the first true answer of `condition`, asked again every few milliseconds.

    Raises:
        AssertionError: the deadline passed; the message carries the last answer.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {timeout_s} s; last answer: {answer!r}")
        time.sleep(0.01)  # the only pause in the tests: polling, never hoping
