"""Pages of sorted names, and their tokens."""

import base64
import binascii
from collections.abc import Callable
from typing import Any

from localcloud.pubsub.errors import InvalidArgument

_MAX_PAGE = 1000
_DEFAULT_PAGE = 100
_MAX_PAGE_BYTES = 3 << 20

Slice = Callable[[str, int], tuple[list[str], bool]]


def page(page_size: int, page_token: str, names_after: Slice) -> tuple[list[str], str]:
    """One page, and the token of the next (empty at the end).

    Args:
        names_after: answers up to `count` names after a name (empty: from the start), and whether more follow.

    Raises:
        InvalidArgument: negative size, or a token we did not give.
    """
    if page_size < 0:
        raise InvalidArgument(f"page_size={page_size} is negative; use 0 for the default or 1 to {_MAX_PAGE}.")
    names, has_more = names_after(_decode(page_token), min(page_size or _DEFAULT_PAGE, _MAX_PAGE))
    return names, _encode(names[-1]) if has_more and names else ""


def fitted(names: list[str], token: str, build: Callable[[str], Any]) -> tuple[list[Any], str]:
    """The messages of a page, and its token: the page is cut where its messages would fill a client's 4 MiB."""
    messages: list[Any] = []
    size = 0
    for name in names:
        message = build(name)
        size += message.ByteSize()
        if messages and size > _MAX_PAGE_BYTES:
            return messages, _encode(names[len(messages) - 1])
        messages.append(message)
    return messages, token


def _encode(name: str) -> str:
    return base64.urlsafe_b64encode(b"after:" + name.encode()).decode("ascii")


def _decode(token: str) -> str:
    if not token:
        return ""
    try:
        prefix, _, name = base64.b64decode(token, altchars=b"-_", validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        prefix = ""
    if prefix != "after":
        raise InvalidArgument(
            f"page_token={token[:100]!r} was not given out by this broker; pass next_page_token unchanged."
        )
    return name


def of_list(names: list[str]) -> Slice:
    """Pages over a short list, sorted here."""
    ordered = sorted(names)

    def names_after(after: str, count: int) -> tuple[list[str], bool]:
        rest = [name for name in ordered if name > after]
        return rest[:count], len(rest) > count

    return names_after
