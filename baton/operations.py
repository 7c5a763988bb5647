"""What the client offers for the day when something went wrong."""

from functools import cached_property

from baton.audit.auditing import Audit
from baton.audit.report import Report
from baton.connections import Connections, explaining
from baton.dlq.archive import Summary
from baton.dlq.desk import DeadLetters
from baton.dlq.letter import DeadLetter
from baton.dlq.redriving import Redriven
from baton.errors import RunFailed


class Operations:
    """The part of `baton.Client` for operators."""

    connections: Connections

    @cached_property
    def dead_letter_desk(self) -> DeadLetters:
        """All that can be done with dead letters; the methods below are the short way."""
        return DeadLetters(self.connections)

    def dead_letters(self, *, reason_contains: str = "", topic: str = "", run_id: str = "") -> list[Summary]:
        """Return the messages that no worker could use and that nobody has sent back yet, the newest first.

        Example:
            for letter in client.dead_letters():
                print(letter.key, letter.reason)
        """
        with explaining("dead letters"):
            self.dead_letter_desk.collect()
            return self.dead_letter_desk.find(reason_contains=reason_contains, topic=topic, run_id=run_id)

    def dead_letter(self, key: str) -> DeadLetter:
        """Return one dead letter, whole: `letter.content.data` and `.attributes`, `letter.arrivals` with the reasons.

        Raises:
            NotKnown: there is none of that key.
        """
        with explaining(f"dead letter {key}"):
            self.dead_letter_desk.collect()
            return self.dead_letter_desk.get(key)

    def redrive(self, *keys: str, anyway: bool = False, again: bool = False) -> list[Redriven]:
        """Send dead letters back to the topic that they came from; twice has one effect.

        Args:
            anyway: also those that the worker would refuse again.
            again: also those that were redriven already.

        Example:
            client.redrive(*(letter.key for letter in client.dead_letters(reason_contains="limt")))
        """
        with explaining("redriving"):
            return list(self.dead_letter_desk.redrive_all(keys, anyway=anyway, again=again))

    def audit(self, wait_s: float = 0.0) -> Report:
        """Account for every event that was published: `report.is_balanced` says whether none is missing.

        Args:
            wait_s: how long to wait, at most, until nothing is in flight any more.

        Example:
            assert client.audit().is_balanced
        """
        with explaining("audit"):
            return Audit(self.connections).until_settled(wait_s)

    def refuse_dead_letter(self, run_id: str) -> None:
        """Look whether the event that should start the run was put aside.

        Raises:
            RunFailed: it was; with the reason that the worker gave.
        """
        for letter in self.dead_letters(run_id=run_id):
            raise RunFailed(
                f"no worker could use the event of run {run_id}: {letter.reason}",
                f"mend it with `baton dlq edit {letter.key}` and send it back with `baton dlq redrive {letter.key}`",
            )
