"""A dead letter as the archive keeps it: the message itself, why it was put aside, what was done with it since.

One letter stands for one event, however often it was put aside: sent back and refused again, it is the same letter with one
arrival more. Its key is the id under which the message was first published, where that is known.
"""

import base64
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

FORMAT = 1


class LetterState(StrEnum):
    """What has become of a letter. `REDRIVING`: somebody said that he would publish it, and has not said that he did."""

    OPEN = "open"
    REDRIVING = "redriving"
    REDRIVEN = "redriven"
    DROPPED = "dropped"


class _Frozen(BaseModel):
    # Fields of a newer version are kept: two versions of this command may work on the same letter in turn.
    model_config = ConfigDict(frozen=True, extra="allow")


class Content(_Frozen):
    """A message's data and its own attributes.

    Args:
        data_base64: the data's bytes, in base64: they need not be text.
    """

    data_base64: str
    attributes: dict[str, str] = {}

    @property
    def data(self) -> bytes:
        return base64.b64decode(self.data_base64)

    @classmethod
    def of(cls, data: bytes, attributes: dict[str, str]) -> "Content":
        return cls(data_base64=base64.b64encode(data).decode("ascii"), attributes=attributes)


class Arrival(_Frozen):
    """One time that the message was put aside.

    Args:
        letter_id: the message id on the dead-letter topic.
        source_id: the id of the message that could not be used; "" where Pub/Sub forwarded it, which does not say so.
        time: when it was put aside, aware.
        by: "worker", "pubsub", or "".
        published: when the message itself was published, RFC 3339; "" where it is not known.
        digest: of data and attributes as they came; with `published` it finds the message that Pub/Sub does not name.
    """

    letter_id: str
    source_id: str
    reason: str
    time: datetime
    by: str
    subscription: str = ""
    published: str = ""
    digest: str = ""
    attempts: int = 0

    @property
    def identity(self) -> str:
        """What two tellings of the same arrival have in common: a worker may die between putting aside and noting it."""
        return self.source_id or self.letter_id


class Change(_Frozen):
    """One line of a letter's history."""

    time: datetime
    state: LetterState
    by: str
    note: str = ""
    message_id: str = ""


class DeadLetter(_Frozen):
    """See the module's text.

    Args:
        topic: the topic that it belongs to, or "" where that is not known.
        run_id: the run that it belongs to, or "" where it names none.
        message_id: the id under which the message was first published; "" where that is not known.
        content: as it was first put aside.
        edited: as it is to be sent, where it was edited.
        writer: unique per write; it tells our own lost answer from somebody else's change.
    """

    format: int = FORMAT
    key: str
    state: LetterState
    topic: str
    run_id: str
    message_id: str
    content: Content
    edited: Content | None = None
    arrivals: tuple[Arrival, ...]
    history: tuple[Change, ...]
    writer: str = ""

    @property
    def reason(self) -> str:
        """Why it was put aside the last time."""
        return self.arrivals[-1].reason

    @property
    def time(self) -> datetime:
        """When it was put aside the last time."""
        return self.arrivals[-1].time

    @property
    def current(self) -> Content:
        """What would be sent."""
        return self.edited or self.content

    @property
    def since(self) -> datetime:
        """When its state last changed."""
        return self.history[-1].time

    def changed(
        self, state: LetterState, *, now: datetime, by: str, note: str = "", message_id: str = "", **changes: object
    ) -> "DeadLetter":
        """Return the letter after a change, with the change in its history."""
        change = Change(time=now, state=state, by=by, note=note, message_id=message_id)
        return self.model_copy(update={**changes, "state": state, "history": (*self.history, change)})
