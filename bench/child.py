"""Processes of the product as benchmarks start and end them."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = "baton-local"
BUCKET = f"{PROJECT}-pipeline"
_HIDDEN = ("BATON_", "GOOGLE_", "PYTEST", "CLOUDSDK_")


def plain_environment() -> dict[str, str]:
    """Return our own environment without what would lead the product, or Google's clients, anywhere else."""
    return {key: value for key, value in os.environ.items() if not key.startswith(_HIDDEN)}


def house_environment(folder: Path, endpoints: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process of the house at `folder`.

    `baton.profile.local_profile` says it for a person's laptop, with a pace of its own; what is measured keeps the
    product's defaults. The pipelines are in `pipelines/`, hence their templates in `deploy/templates/`.

    Args:
        folder: what the house keeps.
        endpoints: what answers where, by environment variable; may be empty while nothing does.
    """
    return {
        **plain_environment(),
        **endpoints,
        "GOOGLE_CLOUD_PROJECT": PROJECT,
        "BATON_BUCKET": BUCKET,
        "BATON_DATA_BUCKET": f"{PROJECT}-data",
        "BATON_PIPELINES_DIR": str(folder / "pipelines"),
    }


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
