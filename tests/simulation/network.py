"""The way between a worker and a service: it takes time, and everything can go wrong on it.

One effect is: the request travels, the service does it, the answer travels. `NET_S` bounds a way; what the service does is
one instant. The workers' settle time rests on this bound and on the services' `LAG_S` (see `docs/ledger.md`).
"""

import random
from collections.abc import Callable
from typing import Any, TypeVar

from tests.simulation.faults import READ, Faults, Hit, Kind
from tests.simulation.scheduler import Crash, Process, Scheduler

NET_S = 2.0  # longest way of a request or an answer
LAG_S = 4.0  # how far a list may lie behind
FAST = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3)
SLOW = (*FAST, *FAST, *FAST, 0.5, 1.0, 1.5, NET_S)  # now and then the longest way there is
T = TypeVar("T")
Trace = Callable[[str], None]


class Refused(Exception):
    """The service answered with an HTTP error.

    Args:
        code: HTTP status.
        status: Google's status word.
    """

    def __init__(self, code: int, message: str, status: str = "") -> None:
        self.code = code
        self.message = message
        self.status = status
        super().__init__(f"{code} {message}")


class NoAnswer(Exception):
    """The connection broke; nothing is known."""


_REFUSALS = {
    Kind.BUSY: (429, "Quota exceeded for this minute", "RESOURCE_EXHAUSTED"),
    Kind.SLOW_DOWN: (403, "Rate Limit Exceeded", "PERMISSION_DENIED"),
    Kind.UNAVAILABLE: (503, "The service is currently unavailable", "UNAVAILABLE"),
    Kind.BROKEN: (500, "Internal error encountered", "INTERNAL"),
    Kind.BROKEN_AFTER: (500, "Internal error encountered", "INTERNAL"),
}


class Network:
    """The network of one process."""

    def __init__(
        self,
        scheduler: Scheduler,
        process: Process,
        actor: str,
        faults: Faults,
        rng: random.Random,
        ways: tuple[float, ...],
        trace: Trace | None,
    ) -> None:
        self._scheduler = scheduler
        self._process = process
        self._actor = actor
        self._faults = faults
        self._random = rng
        self._ways = ways
        self._trace = trace

    def call(self, effect: str, apply: Callable[[], T], possible: tuple[Kind, ...]) -> T:
        """Have a service do `apply`, and return its answer.

        Raises:
            Refused: answered with an error (by `apply` itself, or by a fault).
            NoAnswer: nothing is known.
            Crash: the process died here.
        """
        scheduler = self._scheduler
        entered = scheduler.now
        hit = self._faults.at(self._actor, effect, possible, entered)
        if self._trace is not None:
            self._trace(f"{self._actor:<14} {effect}" + (f"   <<< {hit.kind} {hit.seconds or ''}" if hit else ""))
        if hit is not None:
            self._before(hit, apply)
        if possible is not READ:  # what a read finds can be overtaken only on the way back
            self._travel()
        scheduler.entered = entered
        try:
            answer = apply()
        finally:
            if hit is not None:
                self._after(hit, apply)
            self._travel()
        if self._trace is not None:
            self._trace(f"{self._actor:<14} {effect} -> {_short(answer)}")
        return answer

    def _before(self, hit: Hit, apply: Callable[[], Any]) -> None:
        match hit.kind:
            case Kind.CRASH_BEFORE:
                self._die()
            case Kind.FREEZE_BEFORE | Kind.STALL_BEFORE:
                self._pause(hit)
            case Kind.BUSY | Kind.SLOW_DOWN | Kind.UNAVAILABLE | Kind.BROKEN:
                self._travel()
                raise Refused(*_REFUSALS[hit.kind])
            case Kind.CRASH_IN_FLIGHT:
                self._arrives_later(hit, apply)
                self._die()
            case Kind.LATE:
                self._arrives_later(hit, apply)
                self._travel()
                raise NoAnswer

    def _after(self, hit: Hit, apply: Callable[[], Any]) -> None:
        match hit.kind:
            case Kind.CRASH_AFTER:
                self._die()
            case Kind.FREEZE_AFTER | Kind.STALL_AFTER:
                self._pause(hit)
            case Kind.LOST_ANSWER:
                raise NoAnswer
            case Kind.BROKEN_AFTER:
                raise Refused(*_REFUSALS[hit.kind])
            case Kind.SENT_TWICE:
                self._travel()
                apply()

    def _arrives_later(self, hit: Hit, apply: Callable[[], Any]) -> None:
        entered = self._scheduler.now

        def arrive() -> None:
            self._scheduler.entered = entered
            try:
                apply()
            except Exception:  # noqa: BLE001 - nobody is there to hear the refusal
                return

        self._scheduler.at(self._scheduler.now + hit.seconds, arrive)

    def _die(self) -> None:
        self._process.kill()
        raise Crash

    def _pause(self, hit: Hit) -> None:
        if hit.kind in (Kind.FREEZE_BEFORE, Kind.FREEZE_AFTER):
            self._process.frozen_until = self._scheduler.now + hit.seconds
        self._process.paused += 1
        self._scheduler.sleep(hit.seconds)
        self._process.paused -= 1

    def _travel(self) -> None:
        self._scheduler.sleep(self._ways[int(self._random.random() * len(self._ways))])


def _short(answer: Any) -> str:
    text = repr(answer)
    return text if len(text) <= 160 else f"{text[:159]}…"
