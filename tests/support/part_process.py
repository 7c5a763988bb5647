"""One part of the local cloud as a real process: started, killed, started again on the same data directory."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]


class PartProcess:
    """`python -m localcloud[.<name>] --data-dir D`, as a context manager; its log is `log()`."""

    def __init__(
        self, name: str, data_dir: Path, *options: str, environment: Mapping[str, str] | None = None, lines: int = 1
    ) -> None:
        module = f"localcloud.{name}" if name else "localcloud"
        self._argv = [sys.executable, "-m", module, "--data-dir", str(data_dir), *options]
        self._environment = {"PATH": os.environ["PATH"], "HOME": str(data_dir), **(environment or {})}
        self._lines = lines
        self._out = data_dir.with_name(f"{data_dir.name}.{name or 'all'}.out")
        self._log = data_dir.with_name(f"{data_dir.name}.{name or 'all'}.log")
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "PartProcess":
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()

    def start(self, *, is_ready_awaited: bool = True) -> None:
        """Start, and wait for the ready lines on stdout."""
        with self._out.open("wb") as out, self._log.open("ab") as log:
            self.process = subprocess.Popen(self._argv, cwd=ROOT, env=self._environment, stdout=out, stderr=log)
        if is_ready_awaited:
            wait_until(self._is_ready, 30, f"{self._argv} ready")

    def stop(self) -> int:
        """SIGTERM; return the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(15)

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(15)

    def output(self) -> dict[str, str]:
        """The variables printed on stdout."""
        lines = self._out.read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def log(self) -> str:
        """Everything said on stderr so far."""
        return self._log.read_text()

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"it ended with {self.process.returncode}: {self.log()}"
        return self._out.read_text().count("\n") >= self._lines
