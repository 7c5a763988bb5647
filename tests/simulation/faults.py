"""Which fault hits which effect: drawn from the seed, or read from a script when a history is replayed in parts.

A fault is named by who was hit, in what effect, and the how-manieth time: `w1 | vertex.customJobs.create | 2`. So a script
that lost some of its faults still means the same by the others, which is what shrinking needs.
"""

import random
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """What can go wrong around one effect."""

    CRASH_BEFORE = "crash before"
    CRASH_AFTER = "crash after"
    CRASH_IN_FLIGHT = "crash, and the request still arrives"
    FREEZE_BEFORE = "process frozen before"
    FREEZE_AFTER = "process frozen after"
    STALL_BEFORE = "thread stalled before"
    STALL_AFTER = "thread stalled after"
    BUSY = "429, nothing done"
    SLOW_DOWN = "403 rate, nothing done"
    UNAVAILABLE = "503, nothing done"
    BROKEN = "500, nothing done"
    LOST_ANSWER = "done, answer lost"
    BROKEN_AFTER = "done, answered 500"
    LATE = "no answer, done later"
    SENT_TWICE = "done, sent again by the client"
    DOUBLED = "message delivered twice at once"
    DELAYED = "message late"
    ACK_LOST = "acknowledgement lost"
    JOB_FAILS = "job fails"
    JOB_STOPS = "job is pre-empted"
    JOB_HANGS = "job never ends"
    JOB_VANISHES = "job vanishes"
    BAD_OUTPUT = "job leaves a bad output"
    HASTY = "job ends though nobody has recorded it"
    OVERTAKES = "job ends before its cancellation counts"


HOLDS = (Kind.FREEZE_BEFORE, Kind.FREEZE_AFTER, Kind.STALL_BEFORE, Kind.STALL_AFTER)  # the worker goes on afterwards
PROCESS = (Kind.CRASH_BEFORE, Kind.CRASH_AFTER, Kind.FREEZE_BEFORE, Kind.FREEZE_AFTER, Kind.STALL_BEFORE,
           Kind.STALL_AFTER)  # fmt: skip
READ = (*PROCESS, Kind.BUSY, Kind.UNAVAILABLE, Kind.BROKEN)
WRITE = (*READ, Kind.CRASH_IN_FLIGHT, Kind.SLOW_DOWN, Kind.LOST_ANSWER, Kind.BROKEN_AFTER, Kind.LATE)
JOB = (Kind.JOB_FAILS, Kind.JOB_STOPS, Kind.JOB_HANGS, Kind.JOB_VANISHES, Kind.BAD_OUTPUT, Kind.HASTY, Kind.OVERTAKES)
STORED = (*READ, Kind.CRASH_IN_FLIGHT, Kind.LOST_ANSWER, Kind.LATE, Kind.SENT_TWICE)


class Key(NamedTuple):
    """The effect that a fault hits."""

    actor: str
    effect: str
    nth: int

    def __str__(self) -> str:
        return f"{self.actor} | {self.effect} | {self.nth}"


class Hit(NamedTuple):
    """A fault: its kind, and how long where it lasts."""

    kind: Kind
    seconds: float = 0.0


# Looking is most of what workers do, and the least that can go wrong with it is interesting; launching is the opposite.
_SELDOM = ("list ", "vertex.endpoints.list")
_OFTEN = ("create", "launch", "upload", "deployModel", "patch", "undeployModel", "cancel", "update")


def _weight(effect: str) -> float:
    if effect.startswith(_SELDOM):
        return 0.2
    if effect.endswith(_OFTEN):
        return 6.0
    return 2.0 if effect.startswith(("write", "publish", "delete")) or effect.endswith(".get") else 1.0


@dataclass(slots=True)
class Faults:
    """The faults of one history.

    Args:
        rate: how likely each effect is hit.
        kinds: what may happen.
        until: from this time on nothing more goes wrong.
        script: if given, just these faults happen, none is drawn.
    """

    seed: int
    rate: float
    kinds: tuple[Kind, ...]
    until: float
    script: dict[Key, Hit] | None = None
    happened: dict[Key, Hit] = field(default_factory=dict)
    _counts: dict[tuple[str, str], int] = field(default_factory=dict)
    _both: dict[tuple[Kind, ...], list[Kind]] = field(default_factory=dict)
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def at(
        self, actor: str, effect: str, possible: tuple[Kind, ...], now: float, rate: float | None = None
    ) -> Hit | None:
        """Return the fault that hits this effect, or None; `rate` is for what should be hit more often."""
        rate = self.rate * _weight(effect) if rate is None else rate
        if self.script is None and (not rate or now >= self.until):
            return None
        place = (actor, effect)
        count = self._counts[place] = self._counts.get(place, 0) + 1
        if self.script is not None:
            key = Key(actor, effect, count)
            hit = self.script.get(key)
            if hit is None or hit.kind not in possible:
                return None
        else:
            if self._random.random() >= rate:
                return None
            allowed = self._allowed(possible)
            if not allowed:
                return None
            kind = self._random.choice(allowed)
            key = Key(actor, effect, count)
            hit = Hit(kind, self._duration(kind))
        self.happened[key] = hit
        return hit

    def _allowed(self, possible: tuple[Kind, ...]) -> list[Kind]:
        found = self._both.get(possible)
        if found is None:
            found = self._both[possible] = [kind for kind in possible if kind in self.kinds]
        return found

    def _duration(self, kind: Kind) -> float:
        """From a blink to minutes, as many of each order of magnitude."""
        if kind in (*HOLDS, Kind.DELAYED):
            return round(10 ** self._random.uniform(0.0, 2.8), 1)
        return round(self._random.uniform(0.1, 2.0), 2)
