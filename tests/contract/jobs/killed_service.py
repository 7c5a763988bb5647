"""The jobs service as a process that tests kill, and the end of all that it had started: its children outlive it."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from localcloud.jobs import processes
from tests.contract.jobs.conftest import SERVER
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[3]


class Service:
    """The jobs service as a process of its own, on one data directory and one port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images = folder / "images.toml"
        (folder / "server.py").write_text(SERVER, encoding="utf-8")
        server = json.dumps([sys.executable, "-S", str(folder / "server.py")])
        self.images.write_text(
            f'[images.shell]\ncommand = ["/bin/sh", "-c"]\n[images.server]\ncommand = {server}\n', encoding="utf-8"
        )
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        arguments = [str(self.folder / "data"), str(self.port), str(self.images), str(self.folder / "step")]
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("crashing.py")), *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert "ready" in self.process.stdout.readline()

    def spares(self) -> int:
        """How many spare processes are up; one that is not yet shows the arguments that it was started with."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        shown = [Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0") for pid in children]
        return shown.count(b"spare")

    def kill_at(self, step: int) -> None:
        """From now on it kills itself at that step."""
        assert self.process is not None
        (self.folder / "step").write_text(str(step), encoding="ascii")
        self.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: not (self.folder / "step").exists(), what="the arming")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.wait()

    def wait(self) -> int:
        assert self.process is not None
        assert self.process.stdout is not None
        code = self.process.wait(20)
        self.process.stdout.close()
        return code

    def dies(self, within_s: float = 0.3) -> bool:
        """Say whether it dies (by its own hand) in a moment."""
        assert self.process is not None
        try:
            self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            return False
        assert self.wait() == -signal.SIGKILL
        return True

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def end_everything(self) -> None:
        """Kill the service, then whatever it or one killed before it had started; at the end of a test, passed or not.

        SIGTERM would not do: a service that is still armed may die at a step of its stop, and leave its children.
        """
        if self.process is not None:
            self.kill()
        attempts = (self.folder / "data" / "jobs" / "runs").glob("*/*")
        tokens = [f"{attempt.parent.name}.{attempt.name}" for attempt in attempts]
        wait_until(lambda: processes.kill_strays(*tokens) == 0, what=f"the end of the processes of {tokens}")
