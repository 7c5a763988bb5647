"""A queue that is cheap while it is short: a million ordering keys have two each, and most of them hold one message.

An empty collections.deque takes 760 bytes; a line with one item takes 160. Long ones cost no more to take from than a deque.
"""

from typing import Generic, TypeVar

T = TypeVar("T")

_WORTH_TRIMMING = 64


class Line(Generic[T]):
    """Items in order, taken from either end; what was taken in front leaves room to put it back."""

    __slots__ = ("_head", "_items")

    def __init__(self) -> None:
        self._items: list[T | None] = []
        self._head = 0

    def __len__(self) -> int:
        return len(self._items) - self._head

    @property
    def first(self) -> T:
        """The item in front.

        Raises:
            IndexError: there is none.
        """
        return self._items[self._head]  # type: ignore[return-value]

    def append(self, item: T) -> None:
        """Add at the end."""
        self._items.append(item)

    def append_first(self, item: T) -> None:
        """Put in front."""
        if self._head:
            self._head -= 1
            self._items[self._head] = item
        else:
            self._items.insert(0, item)

    def take_first(self) -> T:
        """Take the item in front.

        Raises:
            IndexError: there is none.
        """
        items, head = self._items, self._head
        item = items[head]
        items[head] = None  # nothing is held for longer than it stands here
        head += 1
        if head == len(items):
            items.clear()
            head = 0
        elif head >= _WORTH_TRIMMING and 2 * head >= len(items):
            del items[:head]
            head = 0
        self._head = head
        return item  # type: ignore[return-value]

    def take_last(self) -> T:
        """Take the item at the end.

        Raises:
            IndexError: there is none.
        """
        if not len(self):
            raise IndexError("nothing stands in line")
        return self._items.pop()  # type: ignore[return-value]

    def remove(self, item: T) -> None:
        """Take an item out of the middle.

        Raises:
            ValueError: it is not there.
        """
        self._items.remove(item)
