"""One reader of a subscription: a stream, a Pull call or a push loop, with its flow control."""

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from localcloud.pubsub.errors import PubSubError

if TYPE_CHECKING:
    from localcloud.pubsub.ordering import KeyQueue

# What the broker hands to one reader that sets no limit of its own: it keeps the broker's memory bounded.
DEFAULT_MAX_MESSAGES = 100_000
DEFAULT_MAX_BYTES = 1 << 30


class Consumer:
    """What a reader holds, and a bell to wake it.

    Args:
        max_messages: messages it may hold unacked; 0 or less stands for the broker's own limit.
        max_bytes: the same in bytes of messages. One message is always let through, however large.
    """

    __slots__ = ("_bell", "ack_deadline_s", "bytes", "error", "max_bytes", "max_messages", "messages", "own_keys")

    def __init__(self, max_messages: int = 0, max_bytes: int = 0) -> None:
        self.max_messages = min(max_messages, DEFAULT_MAX_MESSAGES) if max_messages > 0 else DEFAULT_MAX_MESSAGES
        self.max_bytes = min(max_bytes, DEFAULT_MAX_BYTES) if max_bytes > 0 else DEFAULT_MAX_BYTES
        self.ack_deadline_s = 0  # 0: the subscription's own
        self.messages = 0
        self.bytes = 0
        self.own_keys: deque[KeyQueue] = deque()
        self.error: PubSubError | None = None
        self._bell: asyncio.Future[None] | None = None

    @property
    def room_messages(self) -> int:
        """How many more messages it may be handed now."""
        return 0 if self.bytes >= self.max_bytes else self.max_messages - self.messages

    @property
    def room_bytes(self) -> int:
        """How many more bytes it may be handed now."""
        return self.max_bytes - self.bytes

    def charge(self, size_bytes: int) -> None:
        """It now holds one message more."""
        self.messages += 1
        self.bytes += size_bytes

    def release(self, size_bytes: int) -> None:
        """It holds one message less; wake it if it was full."""
        was_full = self.messages >= self.max_messages or self.bytes >= self.max_bytes
        self.messages -= 1
        self.bytes -= size_bytes
        if was_full:
            self.ring()

    def ring(self) -> None:
        """Wake the reader: there may be something to take."""
        if self._bell is not None and not self._bell.done():
            self._bell.set_result(None)

    def close(self, error: PubSubError) -> None:
        """Have the reader end with this error at its next look."""
        self.error = error
        self.ring()

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Sleep until rung; False if the time passed first."""
        self._bell = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                await self._bell
        except TimeoutError:
            return False
        finally:
            self._bell = None
        return True
