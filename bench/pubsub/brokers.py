"""The brokers under measurement, each as a process of its own: ours, and Google's emulator where the machine has its jar."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import grpc
import psutil

from bench.pubsub import raw

ROOT = Path(__file__).parents[2]
_JAR_PLACES = (
    "/usr/lib/google-cloud-sdk",
    "/usr/local/google-cloud-sdk",
    "/opt/google-cloud-sdk",
    "~/google-cloud-sdk",
)
_JAR = "platform/pubsub-emulator/lib/cloud-pubsub-emulator-*-all.jar"
_START_LIMIT_S = 60.0
_POLL_S = 0.002


def find_jar() -> Path | None:
    """Google's emulator: what PUBSUB_EMULATOR_JAR names, or the newest under the usual places of the gcloud command line."""
    named = os.environ.get("PUBSUB_EMULATOR_JAR")
    if named:
        if not Path(named).is_file():
            sys.exit(f"PUBSUB_EMULATOR_JAR={named} is not a file; name the emulator's -all.jar or unset it.")
        return Path(named)
    places = [os.environ.get("CLOUDSDK_ROOT_DIR", ""), *_JAR_PLACES]
    found = sorted(jar for place in places if place for jar in Path(place).expanduser().glob(_JAR))
    return found[-1] if found else None


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class BrokerProcess:
    """One broker, started and ready; ends with the `with` block. `startup_s` is from its start to the first answered RPC."""

    def __init__(self, argv: Sequence[str], port: int) -> None:
        self.address = f"127.0.0.1:{port}"
        self._argv = list(argv)
        self.start()

    def start(self) -> None:
        """Start the process and wait for its first answer."""
        began_s = time.perf_counter()
        self._process = subprocess.Popen(
            self._argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._await_answer(began_s + _START_LIMIT_S)
        self.startup_s = time.perf_counter() - began_s

    def _await_answer(self, deadline_s: float) -> None:
        host, _, port = self.address.partition(":")
        while True:
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
                break
            except OSError:
                if self._process.poll() is not None:
                    raise RuntimeError(
                        f"{self._argv} ended with {self._process.returncode} before it listened"
                    ) from None
                if time.perf_counter() > deadline_s:
                    raise RuntimeError(f"{self._argv} does not listen on {self.address}") from None
                time.sleep(_POLL_S)
        with grpc.insecure_channel(self.address, raw.OPTIONS) as channel:
            request = raw.ListTopicsRequest(project=raw.PROJECT)
            raw.unary(channel, "ListTopics")(request, timeout=_START_LIMIT_S, wait_for_ready=True)

    def memory_bytes(self) -> int:
        """Resident memory of the process and its children."""
        parent = psutil.Process(self._process.pid)
        return sum(int(process.memory_info().rss) for process in (parent, *parent.children(recursive=True)))

    def cpu_s(self) -> float:
        """Processor time used so far, user and system."""
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.wait(30)

    def __enter__(self) -> "BrokerProcess":
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()


def ours(data_dir: Path, port: int | None = None, *options: str) -> BrokerProcess:
    """Baton's broker, durable as it is by default."""
    port = port or free_port()
    argv = [sys.executable, "-m", "localcloud.pubsub", "--port", str(port), "--data-dir", str(data_dir), *options]
    return BrokerProcess(argv, port)


def google(jar: Path) -> BrokerProcess:
    """Google's emulator, with the options of its own launcher (none)."""
    port = free_port()
    return BrokerProcess(["java", "-jar", str(jar), "--host=127.0.0.1", f"--port={port}"], port)
