"""The saboteur: spoils a house of real processes without pause, from a printed seed, and repairs what it broke.

Every trouble has a victim, a beginning and, after a while, an end; no victim has two at once. Which trouble comes next and
how long it lasts follow from the seed alone; what it meets does not, as the processes are real.
"""

import random
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

from tests.support.bad_line import Mode
from tests.support.parts_house import PartsHouse

_PARTS = ("pubsub", "storage", "jobs")
# A fault that lies about what is there must end before the workers believe it: their settle time is longer (test_storm).
STALE_S = 1.5
HELD_S = 1.5
_RULES: tuple[tuple[str, dict[str, object]], ...] = (
    ("storage", {"method": "storage.objects.*", "kind": "error", "code": 503, "probability": 0.3}),
    ("storage", {"method": "storage.objects.*", "kind": "error", "code": 429, "probability": 0.3}),
    ("storage", {"method": "storage.objects.*", "kind": "lost_answer", "code": 0, "probability": 0.3}),
    ("storage", {"method": "storage.objects.*", "kind": "lost_answer", "code": 503, "probability": 0.3}),
    ("jobs", {"method": "*", "kind": "error", "code": 503, "probability": 0.4}),
    ("jobs", {"method": "*", "kind": "error", "code": 429, "probability": 0.4}),
    ("jobs", {"method": "*", "kind": "drop", "probability": 0.4}),
    ("jobs", {"method": "*", "kind": "lost_answer", "code": 0, "probability": 0.4}),
    ("jobs", {"method": "*", "kind": "lost_answer", "code": 500, "probability": 0.4}),
    ("jobs", {"method": "*.list", "kind": "stale", "lag_s": STALE_S}),
    ("jobs", {"method": "*", "kind": "slow", "delay_s": 1.0, "probability": 0.5}),
    ("jobs", {"method": "*", "kind": "preempt", "delay_s": 0.1, "probability": 0.5}),
)


@dataclass(frozen=True)
class Trouble:
    """Something that goes wrong with one victim for a while."""

    kind: str
    victim: str
    lasts_s: float
    begin: Callable[[], None]
    end: Callable[[], None]


class Saboteur:
    """See the module's text.

    Args:
        every_s: the mean time from one trouble to the next.
    """

    def __init__(self, house: PartsHouse, seed: int, every_s: float) -> None:
        self._house = house
        self._chance = random.Random(seed)
        self._every_s = every_s
        self._next = time.monotonic()
        self._began = self._next
        self._present: dict[str, tuple[float, Trouble]] = {}  # victim -> when its trouble ends
        self.done: Counter[str] = Counter()
        self.story: list[str] = []
        self.deaths: list[str] = []  # of processes that nobody killed

    def tick(self) -> None:
        """End what is over, begin what is due; to be called often."""
        now = time.monotonic()
        for victim, (ends, trouble) in list(self._present.items()):
            if now >= ends:
                del self._present[victim]
                trouble.end()
        self._look_after_the_living()
        if now >= self._next:
            self._next = now + self._chance.expovariate(1 / self._every_s)
            self._begin(now)

    def calm(self) -> None:
        """End everything at once."""
        for _, trouble in self._present.values():
            trouble.end()
        self._present.clear()
        self._look_after_the_living()
        self._say("calm", "")

    def _begin(self, now: float) -> None:
        makers = (self._kill, self._kill, self._kill, self._freeze, self._line, self._rules, self._full_disk)
        trouble = self._chance.choice(makers)()
        if trouble.victim in self._present:
            return
        self._say(trouble.kind, f"{trouble.victim} for {trouble.lasts_s:.1f} s")
        self.done[trouble.kind] += 1
        self._present[trouble.victim] = (now + trouble.lasts_s, trouble)
        trouble.begin()

    def _anybody(self) -> str:
        return self._chance.choice((*self._house.workers, *_PARTS))

    def _kill(self) -> Trouble:
        name, house = self._anybody(), self._house
        return Trouble(
            "kill", name, self._chance.uniform(0, 1.5), lambda: house.kill(name), lambda: house.start_again(name)
        )

    def _freeze(self) -> Trouble:
        name = self._anybody()
        # A frozen part holds what was sent to it, as a held line does; a worker may sleep for as long as it likes.
        lasts_s = self._chance.uniform(0.2, HELD_S if name in _PARTS else 8)
        process = self._house.processes.get(name)

        def send(number: signal.Signals) -> Callable[[], None]:
            return lambda: process.send_signal(number) if process is not None else None

        return Trouble("freeze", name, lasts_s, send(signal.SIGSTOP), send(signal.SIGCONT))

    def _line(self) -> Trouble:
        part = self._chance.choice(_PARTS)
        line, mode = self._house.lines[part], self._chance.choice([mode for mode in Mode if mode is not Mode.GOOD])

        def begin() -> None:
            line.mode = mode
            if mode is Mode.REFUSED:
                self._house.cut(part)

        def end() -> None:
            line.mode = Mode.GOOD

        return Trouble(f"line {mode.value}", f"line to {part}", self._chance.uniform(0.2, HELD_S), begin, end)

    def _rules(self) -> Trouble:
        part, rule = self._chance.choice(_RULES)
        rule = {**rule, "seed": self._chance.randrange(2**31)}

        def begin() -> None:
            self._tell(part, [rule])

        def end() -> None:
            self._tell(part, [])

        return Trouble(
            f"{rule['kind']} {rule.get('code', '')}", f"rules of {part}", self._chance.uniform(1, 4), begin, end
        )

    def _tell(self, part: str, rules: list[dict[str, object]]) -> None:
        try:
            self._house.faults(part, rules)
        except (URLError, OSError) as fault:
            self._say("not told", f"{part}: {fault}")  # it is down: then it has no rules either

    def _full_disk(self) -> Trouble:
        part = self._chance.choice(_PARTS)
        process = self._house.processes.get(part)

        def begin() -> None:
            if process is not None and self._house.told(
                part
            ):  # without a disk a part cannot start: that is not the question
                limit_writes(process.pid, 0)

        def end() -> None:
            for pid in [*([process.pid] if process is not None else []), *processes_in(self._house.folder)]:
                limit_writes(pid, resource.RLIM_INFINITY)

        return Trouble("full disk", part, self._chance.uniform(0.3, 2), begin, end)

    def _look_after_the_living(self) -> None:
        """Start again what ended by itself, as systemd and Cloud Run do; it is told all the same."""
        for name, process in list(self._house.processes.items()):
            if name not in self._present and process.poll() is not None:
                self.deaths.append(f"{name} ended with {process.returncode}")
                self._say("died", self.deaths[-1])
                self._house.start_again(name)

    def _say(self, kind: str, what: str) -> None:
        self.story.append(f"{time.monotonic() - self._began:7.1f} s  {kind:<18} {what}".rstrip())


def limit_writes(pid: int, size_bytes: int) -> None:
    """Let the process write to no file beyond this size: with 0 the disk takes nothing more (it says EFBIG)."""
    try:
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size_bytes, hard))
    except ProcessLookupError:
        return  # it was killed meanwhile


def processes_in(folder: Path) -> Iterator[int]:
    """Yield the pids of the processes that work in a folder: the jobs and model servers of a house."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if (place / "cwd").readlink().is_relative_to(folder):
                yield int(place.name)
        except OSError:
            continue  # it has ended, or is not ours
