"""Processes of the product as benchmarks start and end them."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
_HIDDEN = ("BATON_", "GOOGLE_", "PYTEST", "CLOUDSDK_")


def plain_environment() -> dict[str, str]:
    """Return our own environment without what would lead the product, or Google's clients, anywhere else."""
    return {key: value for key, value in os.environ.items() if not key.startswith(_HIDDEN)}


def spawn(arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start `python -m` with the arguments in a session of its own; what it says is added to `log`."""
    with log.open("ab") as said:
        return subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )


def end(process: subprocess.Popen[bytes], limit_s: float) -> None:
    """SIGTERM, and SIGKILL where that is not enough."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
