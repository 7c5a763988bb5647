"""Names of runs that come from another run: its retries and its replays, numbered."""

import hashlib
from collections.abc import Callable, Iterator

from baton.runs import Run, RunState

_MOST = 63  # characters of a run id


def child_id(base: str, suffix: str) -> str:
    """Return `base` with `-suffix`; one that would be too long keeps its beginning and gets a digest of the rest."""
    if len(base) + len(suffix) + 1 > _MOST:
        digest = hashlib.sha256(base.encode()).hexdigest()[:10]
        base = f"{base[: _MOST - len(suffix) - len(digest) - 2].rstrip('-')}-{digest}"
    return f"{base}-{suffix}"


def children(name: Callable[[int], str], look: Callable[[str], Run], first: int) -> Iterator[Run]:
    """Yield the runs `name(first)`, `name(first + 1)` … as far as the ledger knows them.

    The one after the last was perhaps published already and not claimed yet: whoever takes its name then tells the same
    event again, and it is one run.
    """
    number = first
    while (found := look(name(number))).state is not RunState.WAITING:
        yield found
        number += 1
