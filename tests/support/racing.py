"""Threads that begin at the same moment."""

import threading
from collections.abc import Callable


def race(count: int, action: Callable[[int], None]) -> None:
    """Run `action(number)` in `count` threads that begin together; raise what the first of them raised."""
    gate = threading.Barrier(count)
    failures: list[BaseException] = []

    def run(number: int) -> None:
        gate.wait()
        try:
            action(number)
        except BaseException as error:  # noqa: BLE001  (raised again below, in the test's thread)
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
