"""Follows runs to their end, and shows them on the way: drawn anew in a terminal, line by line elsewhere."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.live import Live

from baton.client import Client
from baton.errors import TimedOut, Unreachable
from baton.progress import changes, live_view
from baton.render import plain
from baton.runs import Run, RunState
from baton.tracking import Snapshot, Tracker

_FRAME_S = 0.125  # how often the picture is drawn
_LOOK_LOCAL_S = 0.4  # how often the ledger is read: a laptop's answers cost nothing
_LOOK_CLOUD_S = 3.0
_SILENCE_S = 60.0  # a local cloud that was killed is back within seconds
_UNCLAIMED_S = 5.0  # an event that nobody has claimed by then may be a dead letter: look, and again as often

_UNCLAIMED = (
    "nobody has claimed it yet: is that its id (see `baton runs`), and are the workers up (see `baton doctor`)?"
)


class Watch:
    """Watches runs until all of them have ended.

    Args:
        runs: (title, run id) of each.
        console: where to show them.
        is_live: draw a picture; by default where the console is a terminal.
    """

    def __init__(
        self, client: Client, runs: Sequence[tuple[str, str]], console: Console, is_live: bool | None = None
    ) -> None:
        self._client = client
        self._tracker = Tracker(client.connections)
        self._titles = dict((run_id, title) for title, run_id in runs)
        self._console = console
        self._is_live = console.is_terminal if is_live is None else is_live
        self._look_s = _LOOK_LOCAL_S if client.profile.is_emulated else _LOOK_CLOUD_S
        self._seen: dict[str, Snapshot] = {}
        self._began = time.monotonic()
        self._next_dead_letter_look = self._began + _UNCLAIMED_S
        self._hinted: set[str] = set()

    def until_end(self, timeout_s: float | None = None, meanwhile: Callable[[], None] | None = None) -> list[Run]:
        """Return the runs once all have ended.

        Args:
            meanwhile: called at each look; what it raises ends the watching.

        Raises:
            TimedOut: some have not ended after `timeout_s`.
            RunFailed: the event of one is a dead letter.
            Unreachable: the cloud has been silent for a minute.
        """
        next_look, answered = 0.0, time.monotonic()
        with self._live() as live:
            while True:
                now = time.monotonic()
                if now >= next_look:
                    answered = self._look_patiently(answered)
                    next_look = time.monotonic() + self._look_s
                    if meanwhile is not None:
                        meanwhile()
                if live is not None:
                    live.update(self._picture(), refresh=True)
                if self._all_ended():
                    return [self._seen[run_id].run for run_id in self._titles]
                if timeout_s is not None and now - self._began > timeout_s:
                    raise self._timed_out(timeout_s)
                time.sleep(_FRAME_S if self._is_live else self._look_s)

    def _live(self) -> AbstractContextManager[Any]:
        return Live(console=self._console, auto_refresh=False, transient=False) if self._is_live else nullcontext()

    def _look_patiently(self, answered: float) -> float:
        """Look; a cloud that does not answer just now is asked again. Returns when it last answered."""
        try:
            for run_id in self._titles:
                self._look(run_id)
        except Unreachable:
            if time.monotonic() - answered > _SILENCE_S:
                raise
            return answered
        return time.monotonic()

    def _look(self, run_id: str) -> None:
        before = self._seen.get(run_id)
        if before is not None and before.run.state.is_final:
            return
        run = self._client.look(run_id)
        if run.state is RunState.WAITING and time.monotonic() > self._next_dead_letter_look:
            self._client.refuse_dead_letter(run_id)
            self._next_dead_letter_look = time.monotonic() + _UNCLAIMED_S
            self._hint(run_id)
        after = self._tracker.snapshot(run)
        self._seen[run_id] = after
        if not self._is_live:
            for line in changes(before, after):
                stamp = datetime.now().astimezone().strftime("%H:%M:%S")
                self._console.print(f"{stamp} {plain(line)}", highlight=False, soft_wrap=True)

    def _hint(self, run_id: str) -> None:
        """Say once why nothing happens: a mistyped id would be waited for without an end."""
        if run_id not in self._hinted:
            self._hinted.add(run_id)
            self._console.print(f"{plain(run_id)}: {_UNCLAIMED}", highlight=False, soft_wrap=True)

    def _picture(self) -> Any:
        seen = [(title, self._seen[run_id]) for run_id, title in self._titles.items() if run_id in self._seen]
        return live_view(seen, datetime.now(UTC))

    def _all_ended(self) -> bool:
        return all(run_id in self._seen and self._seen[run_id].run.state.is_final for run_id in self._titles)

    def _timed_out(self, timeout_s: float) -> TimedOut:
        run = next(seen.run for run_id in self._titles if not (seen := self._seen[run_id]).run.state.is_final)
        again = f"look again with `baton runs watch {run.id}`"
        if run.state is RunState.WAITING:
            return TimedOut(f"no worker has claimed run {run.id} after {timeout_s:g} s", f"{_UNCLAIMED}; {again}")
        return TimedOut(f"run {run.id} has not ended after {timeout_s:g} s", again)
