"""Google's Pub/Sub emulator as a process, where the machine has it."""

import glob
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.waiting import wait_until

_JAR = "/usr/lib/google-cloud-sdk/platform/pubsub-emulator/lib/cloud-pubsub-emulator-*-all.jar"


@contextmanager
def google_emulator(folder: Path) -> Iterator[str]:
    """Yield its address; it is from PUBSUB_EMULATOR_JAR or gcloud's standard place, else the test is skipped."""
    jar = os.environ.get("PUBSUB_EMULATOR_JAR", "") or next(iter(sorted(glob.glob(_JAR))[-1:]), "")
    if not jar or not Path(jar).exists():
        pytest.skip("Google's emulator is not on this machine; set PUBSUB_EMULATOR_JAR to compare with it")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["java", "-jar", jar, "--host=127.0.0.1", f"--port={port}"], stdout=log, stderr=log)
        try:
            wait_until(lambda: _answers(port), timeout_s=60, what="Google's emulator answering")
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(10)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
