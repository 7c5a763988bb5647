"""Who holds a data directory: two locks of the kernel's, which end with the processes that hold them.

`up.lock` is held by a `baton up` alone, `children.lock` by every child of it too. So a second `baton up` can tell a living
one from a killed one whose children are just ending.
"""

import fcntl
import os
import time
from pathlib import Path
from typing import IO

from baton.errors import InUse

_ENDING_TIMEOUT_S = 45.0  # what children of a killed `baton up` may take to end
_POLL_S = 0.02


def lock_up(home: Path) -> IO[str]:
    """Take the lock that says: a `baton up` lives here.

    Raises:
        InUse: one does.
    """
    file = (home / "up.lock").open("a+", encoding="utf-8")
    if not _try_lock(file):
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise InUse(
            f"a local cloud runs in {home} already (process {holder})",
            f"use it as it is (`baton runs`), or end it with Ctrl-C there or `kill {holder}`; "
            "another one needs another --data-dir",
        )
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def is_up(home: Path) -> bool:
    """Tell whether a `baton up` lives in this data directory."""
    path = home / "up.lock"
    if not path.exists():
        return False
    with path.open("a+", encoding="utf-8") as file:
        return not _try_lock(file)


def lock_children(home: Path, timeout_s: float = _ENDING_TIMEOUT_S) -> IO[str]:
    """Take the lock that every child holds, waiting for those of a killed `baton up` to end.

    Raises:
        InUse: some do not end.
    """
    file = (home / "children.lock").open("a+", encoding="utf-8")
    deadline = time.monotonic() + timeout_s
    while not _try_lock(file):
        if time.monotonic() > deadline:
            file.close()
            raise InUse(
                f"processes of an earlier `baton up` in {home} have not ended after {timeout_s:g} s",
                "end them by hand: `ps -ef | grep -e localcloud -e workers` shows them",
            )
        time.sleep(_POLL_S)
    return file


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
