"""Pages of a list that is ordered newest first: the token remembers the last one shown, so new arrivals shift nothing."""

import base64
import binascii
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from localcloud.jobs.names import invalid
from localcloud.rest import Call

T = TypeVar("T")


def page(
    call: Call,
    items: Iterable[T],
    created_us: Callable[[T], int],
    *,
    now_us: int,
    default_size: int,
    largest_size: int,
) -> tuple[list[T], dict[str, Any]]:
    """Cut one page out of items that come newest first.

    Honours `pageSize`, `pageToken`, and a switched-on late list (what is younger than the lag is left out).

    Returns:
        The page's items, and `{"nextPageToken": …}` or `{}`.
    """
    size = call.params.get("pageSize", 0)
    if size < 0:
        raise invalid(f"page_size {size} must not be negative.")
    size = min(size or default_size, largest_size)
    before_us = _read_token(call.params.get("pageToken", ""))
    if call.list_lag_s:
        before_us = min(before_us, now_us - int(call.list_lag_s * 1e6))
    taken: list[T] = []
    for item in items:
        if created_us(item) >= before_us:
            continue
        if len(taken) == size:
            return taken, {"nextPageToken": _token(created_us(taken[-1]))}
        taken.append(item)
    return taken, {}


def _token(created_us: int) -> str:
    return base64.urlsafe_b64encode(str(created_us).encode()).decode()


def _read_token(token: str) -> int:
    if not token:
        return 1 << 62
    try:
        return int(base64.urlsafe_b64decode(token.encode("ascii")))
    except (ValueError, binascii.Error) as error:
        raise invalid(f"Invalid page_token {token!r}; use the one from the previous answer.") from error
