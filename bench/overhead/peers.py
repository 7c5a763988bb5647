"""Runs the peers' scripts, each with an environment of its own, one after another.

The scripts are not part of this repository; see `bench/README.md`. Each prints one JSON object a line, a figure each.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.overhead.figures import Row
from bench.pubsub.brokers import find_jar

_INSTALL_LIMIT_S = 1200.0
_STAMP = "installed-for-bench-overhead"


@dataclass(frozen=True, slots=True)
class Peer:
    """One system under measurement.

    Args:
        script: in the peers' folder.
        packages: what pip installs.
        variant: which way of the script's.
        venv: whose environment, where several share one.
        needs_jar: whether it needs Google's Pub/Sub emulator.
    """

    name: str
    script: str
    packages: tuple[str, ...]
    variant: str
    venv: str = ""
    needs_jar: bool = False

    @property
    def home(self) -> str:
        return self.venv or self.name


_FLOOR = ("google-cloud-pubsub",)
_DAGSTER = ("dagster", "dagster-webserver")
PEERS = {
    peer.name: peer
    for peer in (
        Peer("zenml", "bench_zenml.py", ("zenml[local]",), "zenml"),
        Peer("metaflow", "bench_metaflow.py", ("metaflow",), "metaflow"),
        Peer("kfp", "bench_kfp.py", ("kfp",), "kfp-local"),
        Peer("prefect", "bench_prefect.py", ("prefect",), "prefect-in-process"),
        Peer("dagster", "bench_dagster.py", _DAGSTER, "dagster-in-process"),
        Peer("dagster-launched", "bench_dagster.py", _DAGSTER, "dagster-launched", venv="dagster"),
        Peer("airflow", "bench_airflow.py", ("apache-airflow",), "airflow-sqlite"),
        Peer("floor", "bench_floor.py", _FLOOR, "floor-process"),
        Peer("floor-pubsub", "bench_floor.py", _FLOOR, "floor-pubsub-process", venv="floor", needs_jar=True),
    )
}


class PeerFailed(RuntimeError):
    """A peer could not be installed or measured; says where its words are."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the peers' harness takes, and where things are."""

    scripts: Path
    venvs: Path
    logs: Path
    figures: str
    n: int
    runs: int
    limit_s: float
    sleeps_ms: str
    peer_limit_s: float


def interpreter(peer: Peer, options: Options) -> Path:
    """Return the Python of the peer's environment, which is made and kept for the next time.

    Raises:
        PeerFailed: pip could not install it.
    """
    home = options.venvs / peer.home
    python, stamp = home / "bin" / "python", home / _STAMP
    wanted = " ".join(peer.packages)
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    log = options.logs / f"{peer.home}-install.log"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *peer.packages]
    with log.open("w") as said:
        for argv in ([sys.executable, "-m", "venv", str(home)], pip):
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said, timeout=_INSTALL_LIMIT_S)
            if done.returncode:
                raise PeerFailed(f"{peer.name}: {' '.join(argv)} ended with {done.returncode}; read {log}")
    stamp.write_text(wanted)
    return python


def measure(peer: Peer, options: Options) -> Iterator[Row]:
    """Run the peer's script and yield its figures.

    Raises:
        PeerFailed: the script failed or took too long; what it printed until then has been yielded.
    """
    environment = {**os.environ}
    if peer.needs_jar:
        jar = find_jar()
        if jar is None:
            raise PeerFailed(f"{peer.name}: Google's emulator was not found; set PUBSUB_EMULATOR_JAR to its -all.jar")
        environment["PUBSUB_EMULATOR_JAR"] = str(jar)
    python = interpreter(peer, options)
    argv = [str(python), peer.script, "--variant", peer.variant, "--figures", options.figures, "--n", str(options.n)]
    argv += ["--runs", str(options.runs), "--limit", f"{options.limit_s:g}", "--sleeps", options.sleeps_ms]
    log = options.logs / f"{peer.name}.log"
    yield from _rows_of(peer, argv, environment, log, options)


def _rows_of(
    peer: Peer, argv: Sequence[str], environment: dict[str, str], log: Path, options: Options
) -> Iterator[Row]:
    with log.open("w") as said:
        process = subprocess.Popen(
            argv,
            cwd=options.scripts,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )
        try:
            output, _ = process.communicate(timeout=options.peer_limit_s)
        except subprocess.TimeoutExpired:
            process.terminate()  # its harness ends what it started
            output, _ = process.communicate()
            said.write(f"\nended after {options.peer_limit_s:g} s\n")
    yield from (Row.of(json.loads(line)) for line in output.splitlines() if line.startswith("{"))
    if process.returncode:
        raise PeerFailed(f"{peer.name}: {peer.script} ended with {process.returncode}; read {log}")
