"""Where the lines of all processes go: a file for each, and, if asked for, one log on the terminal."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

from rich.console import Console

from baton.render import log_line

_MAX_BYTES = 20_000_000  # then the file becomes NAME.log.1, and the one before that goes


class LogBook:
    """Takes lines from several threads.

    Args:
        folder: where `<process>.log` are appended to.
        console: where lines are shown; None shows none.
        is_raw: show them as they are.
        on_closed: called once when the console's reader has gone away (`baton up | head`).
    """

    def __init__(
        self, folder: Path, console: Console | None, is_raw: bool = False, on_closed: Callable[[], None] | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._console = console
        self._is_raw = is_raw
        self._on_closed = on_closed
        self._files: dict[str, IO[str]] = {}
        self._lock = threading.Lock()

    def __call__(self, process: str, line: str) -> None:
        """Take one line of a process."""
        with self._lock:
            file = self._file(process)
            file.write(line + "\n")
            file.flush()
            self._show(process, line)

    def path(self, process: str) -> Path:
        """Return where a process's lines are kept."""
        return self.folder / f"{process}.log"

    def close(self) -> None:
        """Close the files."""
        with self._lock:
            for file in self._files.values():
                file.close()
            self._files.clear()

    def _show(self, process: str, line: str) -> None:
        if self._console is None:
            return
        try:
            if self._is_raw:
                self._console.file.write(line + "\n")
                self._console.file.flush()
            else:
                self._console.print(log_line(process, line), soft_wrap=True)
        except OSError:
            # Whoever read our output has gone. The lines are in the files still; that a reader thread dies of it would
            # in the end block the process whose lines it reads.
            self._console = None
            if self._on_closed is not None:
                self._on_closed()

    def _file(self, process: str) -> IO[str]:
        file = self._files.get(process)
        if file is not None and file.tell() > _MAX_BYTES:
            file.close()
            self.path(process).replace(self.path(process).with_suffix(".log.1"))
            file = None
        if file is None:
            file = self.path(process).open("a", encoding="utf-8")
            self._files[process] = file
        return file
