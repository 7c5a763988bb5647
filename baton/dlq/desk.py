"""Everything that can be done with the dead letters of one cloud: what the command line, a notebook and the console use."""

import re
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from datetime import UTC, datetime
from functools import cached_property

from baton.actor import whoami
from baton.audit.first_ids import FirstIds
from baton.connections import Connections
from baton.dlq import inbox
from baton.dlq.archive import Archive, Kept, Summary
from baton.dlq.checkup import Checker, Checkup
from baton.dlq.letter import Content, DeadLetter, LetterState
from baton.dlq.redriving import Redriven, Redriver, original_id, publisher_of
from baton.errors import Refused
from workers.errors import Conflict

OPEN_STATES = (LetterState.OPEN, LetterState.REDRIVING)
_VALUES = re.compile(r"b?'[^']*'|b?\"[^\"]*\"|gs://\S+|\d[\w.:-]*")


class DeadLetters:
    """The dead letters of one cloud.

    Args:
        clock: the time, aware.
    """

    def __init__(self, connections: Connections, clock: Callable[[], datetime] | None = None) -> None:
        self._connections = connections
        self._clock = clock or (lambda: datetime.now(UTC))
        self._by = whoami()

    @cached_property
    def archive(self) -> Archive:
        return Archive(self._connections.storage, self._connections.profile.bucket)

    @cached_property
    def checker(self) -> Checker:
        return Checker(self._connections)

    @cached_property
    def _redriver(self) -> Redriver:
        publish, identify = publisher_of(self._connections), FirstIds(self._connections).of
        return Redriver(self.archive, self.checker, publish, self._by, self._clock, identify)

    def collect(self, report: Callable[[int], None] | None = None) -> int:
        """Write down the letters that wait in their subscription; return how many came."""
        return inbox.collect(self._connections, self.archive, report)

    def find(
        self,
        states: Iterable[LetterState] = OPEN_STATES,
        *,
        reason_contains: str = "",
        topic: str = "",
        run_id: str = "",
    ) -> list[Summary]:
        """Return the letters in these states, the newest first."""
        wanted, text = frozenset(states), reason_contains.casefold()
        found = [
            letter
            for letter in self.archive.summaries()
            if letter.state in wanted
            and text in letter.reason.casefold()
            and topic in ("", letter.topic)
            and run_id in ("", letter.run_id)
        ]
        return sorted(found, key=lambda letter: (letter.time, letter.key), reverse=True)

    def get(self, key: str) -> DeadLetter:
        """Return one letter, whole.

        Raises:
            NotKnown: there is none of that key.
        """
        return self.archive.get(key).letter

    def check(self, letter: DeadLetter, content: Content | None = None, topic: str = "") -> Checkup:
        """Tell what the worker would say to the letter now, or to `content` in its place."""
        return self.checker.check(content or letter.current, topic or letter.topic, original_id(letter))

    def redrive(self, key: str, *, topic: str = "", anyway: bool = False, again: bool = False) -> Redriven:
        """Send one letter back; see `Redriver.redrive`."""
        return self._redriver.redrive(key, topic=topic, anyway=anyway, again=again)

    def redrive_all(
        self, keys: Sequence[str], *, topic: str = "", anyway: bool = False, again: bool = False
    ) -> Generator[Redriven, None, None]:
        """Send many letters back; yields each as it is done."""
        return self._redriver.redrive_all(keys, topic=topic, anyway=anyway, again=again)

    def get_open(self, key: str) -> DeadLetter:
        """Return one letter that can be edited.

        Raises:
            NotKnown: there is none of that key.
            Refused: it was redriven or dropped.
        """
        return self._open(key).letter

    def edit(
        self,
        key: str,
        change: Callable[[Content], Content],
        note: str = "edited",
        *,
        before: Content | None = None,
    ) -> DeadLetter:
        """Change what a letter holds; the original stays beside it.

        Args:
            before: what the change was made from, where a person took his time over it.

        Raises:
            Refused: the letter is not open, or somebody else changed it meanwhile.
        """
        kept = self._open(key)
        if before is not None and kept.letter.current != before:
            raise _changed_meanwhile(key)
        edited = change(kept.letter.current)
        if edited == kept.letter.current:
            return kept.letter
        changed = kept.letter.model_copy(update={"edited": None if edited == kept.letter.content else edited})
        return self._move(Kept(changed, kept.generation), LetterState.OPEN, note)

    def drop(self, key: str, note: str = "") -> DeadLetter:
        """Give a letter up: it stays in the archive, and nothing is sent any more.

        Raises:
            Refused: the letter is not open.
        """
        return self._move(self._open(key), LetterState.DROPPED, note or "dropped")

    def undrop(self, key: str) -> DeadLetter:
        """Bring a dropped letter back.

        Raises:
            Refused: it was not dropped.
        """
        kept = self.archive.get(key)
        if kept.letter.state is not LetterState.DROPPED:
            raise Refused(f"dead letter {key} is {kept.letter.state.value}, not dropped", f"see `baton dlq show {key}`")
        return self._move(kept, LetterState.OPEN, "brought back")

    def _open(self, key: str) -> Kept:
        kept = self.archive.get(key)
        if kept.letter.state not in OPEN_STATES:
            mend = {
                LetterState.REDRIVEN: "if it is refused again it comes back by itself",
                LetterState.DROPPED: f"bring it back with `baton dlq drop --undo {key}`",
            }[kept.letter.state]
            raise Refused(f"dead letter {key} is {kept.letter.state.value}", mend)
        return kept

    def _move(self, kept: Kept, state: LetterState, note: str) -> DeadLetter:
        changed = kept.letter.changed(state, now=self._clock(), by=self._by, note=note)
        try:
            return self.archive.write(changed, kept.generation).letter
        except Conflict as fault:
            raise _changed_meanwhile(kept.letter.key) from fault


def _changed_meanwhile(key: str) -> Refused:
    return Refused(
        f"dead letter {key} was changed by somebody else just now",
        f"nothing was saved; see `baton dlq diff {key}`, then change it again",
    )


def by_cause(letters: Iterable[Summary]) -> list[tuple[int, str, str]]:
    """Group letters by topic and by what their reasons have in common; return (how many, topic, cause), most first."""
    counted = Counter((letter.topic, cause_of(letter.reason)) for letter in letters)
    return [(count, topic, cause) for (topic, cause), count in counted.most_common()]


def cause_of(reason: str) -> str:
    """Return a reason without the values in it, so that a thousand letters of one cause are one line."""
    return _VALUES.sub("…", reason)
