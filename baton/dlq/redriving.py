"""Sends dead letters back to the topic that they came from, with the ids that they had: twice has one effect.

The intent is written before the publish, by compare-and-set, so that of two terminals one publishes. A process that dies
between the two leaves the letter `redriving`; whoever finds it so a while later publishes again. That may tell the event
twice, and its id makes it one: the receiver claims (run, stage) once, and bare JSON carries its first message id along.
"""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from google.api_core import exceptions as google_errors
from google.pubsub_v1.services.publisher import PublisherClient as PlainPublisher

from baton.connections import Connections
from baton.dlq.archive import Archive, Kept
from baton.dlq.checkup import Checker, Verdict
from baton.dlq.letter import DeadLetter, LetterState
from baton.errors import Refused
from messages.identity import LETTER, ORIGINAL_ID, bare_run_id, is_bare
from messages.topics import listeners, topic_path
from workers.errors import Conflict

SETTLE = timedelta(seconds=10)  # how long an intent is left to who wrote it
_AT_ONCE = 8
_PUBLISH_TIMEOUT_S = 30.0

Publish = Callable[[str, bytes, dict[str, str]], str]
Identify = Callable[[DeadLetter], str]
"""Finds the id under which a nameless letter's message was first published; "" where nobody knows."""


class Sent(StrEnum):
    """What became of the wish to send a letter back."""

    REDRIVEN = "redriven"
    ALREADY = "already redriven"
    BUSY = "being redriven by another"
    REFUSED = "would be refused again"
    DROPPED = "was dropped"
    NOT_TAKEN = "not taken by Pub/Sub"
    UNREADABLE = "cannot be read"


@dataclass(frozen=True, slots=True)
class Redriven:
    """What became of one letter.

    Args:
        reason: why it was not sent; or what the worker will make of it.
        message_id: the new message's.
        is_effective: something begins by it; False for what is told again.
    """

    key: str
    sent: Sent
    topic: str = ""
    run_id: str = ""
    reason: str = ""
    message_id: str = ""
    is_effective: bool = False


class Redriver:
    """Sends letters back.

    Args:
        by: who does it; unique to this process.
        clock: the time, aware.
    """

    def __init__(
        self,
        archive: Archive,
        checker: Checker,
        publish: Publish,
        by: str,
        clock: Callable[[], datetime],
        identify: Identify = lambda _: "",
    ) -> None:
        self._identify = identify
        self._archive = archive
        self._checker = checker
        self._publish = publish
        self._by = by
        self._clock = clock

    def redrive(self, key: str, *, topic: str = "", anyway: bool = False, again: bool = False) -> Redriven:
        """Send one letter back.

        Args:
            topic: where to, instead of where it came from.
            anyway: also if the worker would refuse it again.
            again: also if it was redriven already.

        Raises:
            NotKnown: there is no such letter.
        """
        try:
            kept = self._identified(self._archive.get(key))
        except Refused as fault:
            return Redriven(key, Sent.UNREADABLE, reason=str(fault))
        topic = topic or kept.letter.topic
        if (not_now := self._not_now(kept.letter, again)) is not None:
            return not_now
        checkup = self._checker.check(kept.letter.current, topic, original_id(kept.letter))
        if checkup.is_refused and not (anyway and listeners(topic)):
            return Redriven(key, Sent.REFUSED, topic, kept.letter.run_id, checkup.reason)
        try:
            intended = self._write(kept, LetterState.REDRIVING, f"to {topic}")
        except Conflict:
            return self._lost(key)
        try:
            message_id = self._publish(topic, *outgoing(intended.letter))
        except (google_errors.InvalidArgument, google_errors.NotFound) as fault:
            # As it is it will never be taken: too large, too many attributes, no topic. The others do not wait for it.
            told = fault.message.rstrip(".")
            self._mark(intended, LetterState.OPEN, f"not sent to {topic}: {told}")
            edit = f"mend it with `baton dlq edit {key}` (sending back adds two attributes)"
            mend = "create it with `baton setup`" if isinstance(fault, google_errors.NotFound) else edit
            return Redriven(key, Sent.NOT_TAKEN, topic, kept.letter.run_id, f"{told}; {mend}")
        self._mark(intended, LetterState.REDRIVEN, f"to {topic}", message_id)
        run_id, is_effective = checkup.run_id or kept.letter.run_id, checkup.verdict is Verdict.ACCEPTED
        return Redriven(key, Sent.REDRIVEN, topic, run_id, checkup.reason, message_id, is_effective)

    def redrive_all(
        self, keys: Sequence[str], *, topic: str = "", anyway: bool = False, again: bool = False
    ) -> Generator[Redriven, None, None]:
        """Send many letters back, a few at a time; yield each as it is done. Closing the iterator stops the rest.

        A key that is named twice is sent once.
        """
        pool = ThreadPoolExecutor(_AT_ONCE)
        try:
            different = dict.fromkeys(keys)
            wishes = [pool.submit(self.redrive, key, topic=topic, anyway=anyway, again=again) for key in different]
            for wish in as_completed(wishes):
                yield wish.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _identified(self, kept: Kept) -> Kept:
        """Give a letter its message's first id where its run hangs on it and Pub/Sub did not say it.

        Without that, bare JSON that was accepted, and put aside all the same since its acknowledgements were lost, would
        become a second run.
        """
        letter = kept.letter
        if letter.message_id or not is_bare(letter.current.attributes):
            return kept
        first = self._identify(letter)
        if not first:
            return kept
        return Kept(letter.model_copy(update={"message_id": first, "run_id": bare_run_id({}, first)}), kept.generation)

    def _not_now(self, letter: DeadLetter, again: bool) -> Redriven | None:
        last = letter.history[-1]
        match letter.state:
            case LetterState.DROPPED:
                reason = f"by {last.by}; bring it back with `baton dlq drop --undo {letter.key}`"
                return Redriven(letter.key, Sent.DROPPED, letter.topic, letter.run_id, reason)
            case LetterState.REDRIVEN if not again:
                reason = (
                    f"at {last.time:%Y-%m-%d %H:%M:%S} by {last.by}; if it is refused again it comes back by itself"
                )
                return Redriven(letter.key, Sent.ALREADY, letter.topic, letter.run_id, reason, last.message_id)
            case LetterState.REDRIVING if last.by != self._by and self._clock() - last.time < SETTLE:
                reason = f"{last.by} is at it; try again in {SETTLE.total_seconds():g} s"
                return Redriven(letter.key, Sent.BUSY, letter.topic, letter.run_id, reason)
            case _:
                return None

    def _lost(self, key: str) -> Redriven:
        """Say what the one who was quicker made of the letter."""
        letter = self._archive.get(key).letter
        found = self._not_now(letter, again=False)
        return found or Redriven(key, Sent.BUSY, letter.topic, letter.run_id, "it was changed just now; look again")

    def _mark(self, intended: Kept, state: LetterState, note: str, message_id: str = "") -> None:
        try:
            self._write(intended, state, note, message_id)
        except Conflict:
            return  # it was refused and has come back already, or another took it over: what they wrote is newer

    def _write(self, kept: Kept, state: LetterState, note: str, message_id: str = "") -> Kept:
        changed = kept.letter.changed(state, now=self._clock(), by=self._by, note=note, message_id=message_id)
        return self._archive.write(changed, kept.generation)


def original_id(letter: DeadLetter) -> str:
    """Return the id under which the event is known: its first message id, or else the letter's own."""
    return letter.message_id or letter.key


def outgoing(letter: DeadLetter) -> tuple[bytes, dict[str, str]]:
    """Return data and attributes of the message that is published."""
    content = letter.current
    return content.data, {**content.attributes, ORIGINAL_ID: original_id(letter), LETTER: letter.key}


def publisher_of(connections: Connections) -> Publish:
    """Return what publishes one message and returns its id when the service has it."""

    def publish(topic: str, data: bytes, attributes: dict[str, str]) -> str:
        # The plain call, not the batching one: it takes attributes as keyword arguments, and these may be hostile.
        request = {
            "topic": topic_path(connections.profile.project, topic),
            "messages": [{"data": data, "attributes": attributes}],
        }
        answer = PlainPublisher.publish(connections.topics, request=request, timeout=_PUBLISH_TIMEOUT_S)
        return str(answer.message_ids[0])

    return publish
