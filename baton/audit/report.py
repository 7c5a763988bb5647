"""The audit's answer: for each topic and the stage that listens to it, the sum, and whatever spoils it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from baton.audit.fate import Accounted, Verdict
from messages.topics import AUDIT_SUBSCRIPTIONS, listeners


@dataclass(frozen=True, slots=True)
class Row:
    """The sum of one topic in one queue; `queue` is "" where no stage listens."""

    topic: str
    queue: str
    published: int
    counts: dict[Verdict, int]

    def to_json(self) -> dict[str, Any]:
        counts = {verdict.value.replace(" ", "_").replace("-", "_"): self.counts.get(verdict, 0) for verdict in Verdict}
        return {"topic": self.topic, "queue": self.queue, "published": self.published, **counts}


@dataclass(frozen=True, slots=True)
class Report:
    """What an audit found.

    Args:
        rows: the sums.
        accounted: every message with its fate.
        since: when the first message that any audit saw was published, RFC 3339; "" before the first.
        is_exact: the queues could be looked into; where not, what is missing may still be in one.
    """

    rows: list[Row]
    accounted: list[Accounted] = field(repr=False)
    since: str = ""
    is_exact: bool = True

    @property
    def published(self) -> int:
        """How many messages were published."""
        return len({(one.message.topic, one.message.message_id) for one in self.accounted})

    @property
    def lost(self) -> list[Accounted]:
        """The messages that nobody can account for."""
        return self.of(Verdict.LOST)

    @property
    def untold(self) -> list[Accounted]:
        """The messages whose stage has ended and said so, while nobody has seen its event."""
        return [one for one in self.accounted if one.missing]

    @property
    def in_flight(self) -> list[Accounted]:
        """The messages that wait in a queue, or are just being worked on."""
        return self.of(Verdict.IN_FLIGHT)

    @property
    def is_balanced(self) -> bool:
        """Whether promise 2 holds."""
        return not self.lost and not self.untold

    @property
    def is_settled(self) -> bool:
        """Whether nothing is in flight either: every message has its last fate, every stage has ended."""
        return self.is_balanced and all(one.is_final for one in self.accounted)

    def of(self, verdict: Verdict) -> list[Accounted]:
        """Return the messages with this fate, the oldest first."""
        return sorted((one for one in self.accounted if one.verdict is verdict), key=lambda one: one.message.time)

    def to_json(self) -> dict[str, Any]:
        """Return the report as `--json` prints it."""
        return {
            "balanced": self.is_balanced,
            "settled": self.is_settled,
            "exact": self.is_exact,
            "since": self.since,
            "published": self.published,
            "rows": [row.to_json() for row in self.rows],
            "lost": [one.described() for one in self.lost],
            "untold": [one.described() for one in self.untold],
        }


def report_of(accounted: Iterable[Accounted], is_exact: bool) -> Report:
    """Add up."""
    everything = list(accounted)
    counted: dict[tuple[str, str], Counter[Verdict]] = {}
    for one in everything:
        counted.setdefault((one.message.topic, one.queue), Counter())[one.verdict] += 1
    rows = []
    for topic in AUDIT_SUBSCRIPTIONS.values():
        for queue in listeners(topic) or [""]:
            counts = counted.get((topic, queue), Counter())
            rows.append(Row(topic, queue, sum(counts.values()), dict(counts)))
    since = min((one.message.time for one in everything), default="")
    return Report(rows, everything, since, is_exact)
