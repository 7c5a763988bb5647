"""What can be wrong with a message.

MessageError
├── DecodeError     it is not an event we know: dead letter, with the reason
└── Filtered        a well-formed message that starts nothing by design: acknowledged, with the reason
"""


class MessageError(Exception):
    """A message that does not lead to work."""


class DecodeError(MessageError):
    """A message that is not a readable event.

    Args:
        field: where in the message the fault is, for example `ce-type` or `data.params.limit`.
        value: what was found there, shortened; None where nothing was.
        mend: what to change so that the message decodes.
    """

    def __init__(self, field: str, value: object, mend: str) -> None:
        self.field = field
        self.value = value
        self.mend = mend
        super().__init__(f"{field} = {shorten(value)} cannot be read; {mend}")


class Filtered(MessageError):
    """A message that starts nothing, on purpose: for example the deletion of an object."""


def shorten(value: object, limit: int = 120) -> str:
    """Return `repr(value)` cut to `limit` characters, so that a hostile payload cannot flood a log."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
