"""Starts runs in spare processes, for the tests beside this file."""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from localcloud.jobs import processes, spares
from localcloud.jobs.spares import Spares

LIMIT_S = 20.0


def running(scenario: Callable[[Spares], Coroutine[Any, Any, None]]) -> None:
    """Run a scenario in an event loop, with spares that end with it."""

    async def run() -> None:
        made = Spares(lambda: False)
        try:
            await asyncio.wait_for(scenario(made), 3 * LIMIT_S)
        finally:
            made.close()

    asyncio.run(run())


async def until(condition: Callable[[], Any], what: str) -> Any:
    """As `wait_until`, while the event loop runs."""
    async with asyncio.timeout(LIMIT_S):
        while not (answer := condition()):
            await asyncio.sleep(0.005)
    assert answer, what
    return answer


async def reaped(pid: int) -> int:
    found = await until(lambda: None if (code := processes.reap(pid)) is None else [code], "the end of the process")
    return int(found[0])


def count(made: Spares) -> int:
    return sum(len(ready) for ready in made._ready.values())


class Starter:
    """Starts runs in a folder, one after another."""

    def __init__(self, made: Spares, folder: Path, env: dict[str, str] | None = None) -> None:
        self.made = made
        self.folder = folder
        self.env = {"PATH": os.environ["PATH"], "HOME": str(folder), "GREETING": "hello ✓", **(env or {})}
        self.number = 0

    def start(self, argv: list[str], **env: str) -> tuple[int, Path]:
        self.number += 1
        run = self.folder / f"run-{self.number}"
        pid = self.made.start(
            run,
            argv=[sys.executable, *argv],
            env={**self.env, **env},
            directory=self.folder,
            log=self.folder / f"log-{self.number}",
            token=f"token-{self.number}.1",
        )
        return pid, run

    async def warm(self, argv: list[str], **env: str) -> None:
        """Run twice, as a kind of run must come twice, and wait for the spares."""
        for _ in range(2):
            pid, _ = self.start(argv, **env)
            await reaped(pid)
        await until(lambda: count(self.made) == spares._SPARES, "the spares")

    def log(self) -> str:
        return (self.folder / f"log-{self.number}").read_text(encoding="utf-8")


def program(folder: Path, text: str) -> list[str]:
    (folder / "program.py").write_text(text, encoding="utf-8")
    return [str(folder / "program.py")]
