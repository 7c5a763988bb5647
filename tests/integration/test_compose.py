"""docker-compose.yml: it is valid, publishes on loopback only, and each of our services really starts with its command.

No container is needed: a service's argv and environment are taken out of the file, its ports are replaced by free ones
and its folders by temporary ones, and it runs as a process until its own health check passes.
"""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
COMPOSE: dict[str, Any] = YAML(typ="safe").load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
WORKERS = ("preprocess", "train", "deploy")
PORTS = ("8085", "4443", "9050", "9060", "8086", "8087")


def test_the_file_is_valid() -> None:
    """It agrees with the compose specification's schema."""
    argv = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(FILE)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ports_are_published_on_loopback_only() -> None:
    """Nobody on the network reaches a server that asks for no password."""
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert [port.split(":")[1] for port in published] == list(PORTS)
    for port in published:
        assert re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port), port


def test_every_service_has_a_place_and_a_profile() -> None:
    """All but the anchor share its network, what they wait for exists, and the profiles are the two of the comment."""
    for name, service in SERVICES.items():
        assert set(service["profiles"]) <= {"emulators", "localcloud"}, name
        assert name == "net" or service["network_mode"] == "service:net", name
        assert set(service.get("depends_on", [])) <= set(SERVICES), name
        assert ":latest" not in service["image"], name


@pytest.mark.parametrize("profile", ["emulators", "localcloud"])
def test_each_profile_answers_at_every_address(profile: str) -> None:
    """Whatever the workers' settings point at is listened to in both profiles."""
    argv = " ".join(
        part for service in SERVICES.values() if profile in service["profiles"] for part in service.get("command", [])
    )
    for port in PORTS:
        assert port in argv, port


def test_images_are_built_from_what_is_there() -> None:
    """Each Dockerfile exists and copies only what the repository has; their commands are modules of it."""
    for name, service in OURS.items():
        dockerfile = ROOT / service["build"]["dockerfile"]
        copied = re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile.read_text(), re.MULTILINE)
        for path in " ".join(copied).split():
            assert (ROOT / path).exists(), f"{name}: {dockerfile.name} copies {path}"
        if service["command"][:2] == ["python", "-m"]:
            assert service["command"][2].split(".")[0] in " ".join(copied), name


class Deployment:
    """The compose file's services as processes on free ports of loopback."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Run a service's command in the background."""
        with self._log(name).open("wb") as log:
            self._running[name] = subprocess.Popen(
                self._argv(SERVICES[name]["command"]), cwd=ROOT, env=self._environment(name), stdout=log, stderr=log
            )

    def run(self, name: str) -> subprocess.CompletedProcess[str]:
        """Run a service that ends by itself."""
        return subprocess.run(
            self._argv(SERVICES[name]["command"]),
            cwd=ROOT,
            env=self._environment(name),
            capture_output=True,
            text=True,
            timeout=60,
        )

    def wait_until_healthy(self, name: str) -> None:
        """Ask its health check until it passes."""
        check = self._argv(SERVICES[name]["healthcheck"]["test"][1:])
        self._wait(name, lambda: subprocess.run(check, capture_output=True, timeout=30).returncode == 0, "healthy")

    def wait_until_logged(self, name: str, text: str) -> None:
        self._wait(name, lambda: text in self.log(name), text)

    def stop(self, name: str) -> int:
        """SIGTERM; return the exit code."""
        process = self._running.pop(name)
        process.send_signal(signal.SIGTERM)
        return process.wait(20)

    def kill_all(self) -> None:
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)

    def log(self, name: str) -> str:
        return self._log(name).read_text()

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def _wait(self, name: str, condition: Any, what: str) -> None:
        def holds() -> bool:
            code = self._running[name].poll()
            assert code is None, f"{name} ended with {code}: {self.log(name)}"
            return bool(condition())

        wait_until(holds, 60, f"{name} {what}")

    def _environment(self, name: str) -> dict[str, str]:
        wanted: Mapping[str, str] = SERVICES[name]["environment"]
        settings = {variable: self._mapped(str(value)) for variable, value in wanted.items()}
        return {"PATH": os.environ["PATH"], "HOME": str(self._folder), "CLOUDSDK_CONFIG": str(self._folder), **settings}

    def _argv(self, command: list[str]) -> list[str]:
        mapped = [self._mapped(part) for part in command]
        return [sys.executable, *mapped[1:]] if mapped[0] == "python" else mapped

    def _mapped(self, text: str) -> str:
        """A container's ports, addresses and folders as those of this process."""
        text = re.sub(r"(?<=[:=])\d{4}\b", lambda found: self._ports[found[0]], text)
        text = text.replace("0.0.0.0", "127.0.0.1").replace("=/data/", f"={self._folder}/")
        return text.replace("=/app/", f"={ROOT}/")


def free_ports(count: int) -> list[int]:
    """Ports that nobody has at the moment."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    made = Deployment(tmp_path)
    try:
        yield made
    finally:
        made.kill_all()


@pytest.mark.parametrize("name", ["bigquery", "jobs", "metadata"])
def test_our_parts_start_with_their_commands(deployment: Deployment, name: str) -> None:
    """Our stand-ins in the profile `emulators` become healthy, and stop when told to."""
    deployment.start(name)
    deployment.wait_until_healthy(name)
    assert deployment.stop(name) == 0, deployment.log(name)


def test_the_profile_localcloud_starts_whole(deployment: Deployment) -> None:
    """The local cloud becomes healthy, the set-up ends well, every worker listens, and all stop when told to."""
    deployment.start("localcloud")
    deployment.wait_until_healthy("localcloud")
    done = deployment.run("setup")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in WORKERS:
        deployment.start(name)
    for name in WORKERS:
        deployment.wait_until_logged(name, '"ready"')
    for name in (*WORKERS, "localcloud"):
        assert deployment.stop(name) == 0, deployment.log(name)
