"""What became of a message, as the audit tells it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from baton.audit.published import Published


class Verdict(StrEnum):
    """What a message is; each is exactly one of them for each stage that listens to its topic."""

    CONSUMED = "consumed"  # a stage of a run claimed it
    DUPLICATE = "duplicate"  # of what that run had claimed, or told, already
    FILTERED = "filtered"  # it starts nothing, by design
    DEAD_LETTERED = "dead-lettered"  # put aside, and in the archive
    OUTCOME = "outcome"  # the end of a run: nobody has to consume it
    IN_FLIGHT = "in flight"  # it waits to be delivered, or is just being worked on
    LOST = "lost"  # none of these


@dataclass(frozen=True, slots=True)
class Accounted:
    """A message's fate in one queue.

    Args:
        queue: the stage's subscription; "" for a topic to which no stage listens.
        run_id: the run that consumed it, or of which it is a duplicate or the outcome.
        note: why: the reason of a filtered or dead-lettered message, or what is missing.
        is_final: nothing of this can change any more.
        missing: an event that should have followed and that nobody has seen, as `topic event-id`; "" where all is well.
    """

    message: Published
    queue: str
    verdict: Verdict
    run_id: str = ""
    note: str = ""
    is_final: bool = True
    missing: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the row that the books keep."""
        return {
            "message_id": self.message.message_id,
            "queue": self.queue,
            "verdict": self.verdict.value,
            "run_id": self.run_id,
            "note": self.note,
        }

    def described(self) -> dict[str, Any]:
        """Return everything about it, as `--json` lists it."""
        row = {**self.message.to_json(), **self.to_json()}
        return {**row, "missing": self.missing} if self.missing else row

    @classmethod
    def from_json(cls, row: Mapping[str, Any], messages: Mapping[str, Published]) -> "Accounted":
        """Read what `to_json` wrote."""
        return cls(
            messages[row["message_id"]], row["queue"], Verdict(row["verdict"]), row["run_id"], row.get("note", "")
        )
