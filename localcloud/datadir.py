"""The data directory's lock: two local clouds never share one.

The lock is the kernel's (`flock`), so it ends with the process that holds it: a crash leaves none behind.
"""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import IO

_FILE = "lock"


class DataDirError(OSError):
    """A data directory that can't be used; names it, the reason and the mend."""


class DataDirLock:
    """Holds a data directory for this process, as a context manager."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._file: IO[str] | None = None

    def __enter__(self) -> "DataDirLock":
        """Make the directory and lock it.

        Raises:
            DataDirError: somebody else holds it, or it can't be written.
        """
        path = self._data_dir / _FILE
        try:
            self._data_dir.mkdir(parents=True, exist_ok=True)
            file = path.open("a+", encoding="utf-8")
        except OSError as error:
            raise DataDirError(
                f"--data-dir {self._data_dir} can't be used ({error.strerror}); choose a directory you can write to."
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            file.close()
            raise DataDirError(
                f"--data-dir {self._data_dir} is in use by process {holder}; "
                "stop that local cloud, or give this one another --data-dir."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        self._file = file
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
