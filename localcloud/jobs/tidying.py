"""What is left of ended runs: stray processes and scratch folders, taken away a moment later and many at a time.

Looking through /proc takes milliseconds, and so does a folder. Done at each end of a job they would come just when somebody
waits for the news of it, and two hundred jobs that end in a second would take a processor for a good part of it.
"""

import asyncio
import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

from localcloud.jobs import processes

_LATER_S = 0.25

log = logging.getLogger(__name__)


class Tidying:
    """Used from the event loop's thread only."""

    def __init__(self) -> None:
        self._tokens: set[str] = set()
        self._folders: list[Path] = []
        self._task: asyncio.Task[None] | None = None

    def strays(self, token: str) -> None:
        """Kill, soon, whatever process still carries the token of an ended attempt."""
        self._tokens.add(token)
        self._begin()

    def folder(self, folder: Path) -> None:
        """Remove a folder soon, once the strays are gone; no error when it is not there."""
        self._folders.append(folder)
        self._begin()

    async def close(self) -> None:
        """Do now what is left to do."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self._tidy()

    def _begin(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._later())

    async def _later(self) -> None:
        await asyncio.sleep(_LATER_S)
        await self._tidy()
        self._task = None
        if self._tokens or self._folders:  # what came in meanwhile
            self._begin()

    async def _tidy(self) -> None:
        tokens, self._tokens = self._tokens, set()
        folders, self._folders = self._folders, []
        if tokens or folders:
            await asyncio.to_thread(tidy, tokens, folders)


def tidy(tokens: Iterable[str], folders: Iterable[Path] = ()) -> None:
    """Kill the strays of these attempts, then remove the folders."""
    named = set(tokens)
    killed = processes.kill_strays(*named) if named else 0
    if killed:
        log.info("killed strays", extra={"action": "strays_killed", "tokens": sorted(named), "count": killed})
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
