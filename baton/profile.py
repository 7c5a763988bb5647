"""Which cloud a command talks to: the environment's, or the local one that `baton up` started.

If neither `PUBSUB_EMULATOR_HOST` nor `GOOGLE_CLOUD_PROJECT` is set, and `.baton/cloud/endpoints.json` is found here or in
a folder above, that file's endpoints are used, all of them together: a project of the environment is never mixed with
local endpoints, and a person's real credentials are kept away from a local server.

Google's clients read their endpoints from the process's environment, so a profile is applied to it, once, before they
are imported.
"""

import json
import os
import socket
import time
from collections.abc import Collection, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from baton.errors import ProfileError, Unreachable
from baton.locks import is_up

HOME_VARIABLE = "BATON_HOME"
DEFAULT_HOME = Path(".baton")
ENDPOINTS = Path("cloud") / "endpoints.json"
LOCAL_PROJECT = "baton-local"
DEFAULT_REGION = "us-central1"
# Which of them name a server that we can knock at; the others are ports of the same ones, or no servers.
ADDRESSES = (
    "PUBSUB_EMULATOR_HOST",
    "STORAGE_EMULATOR_HOST",
    "BIGQUERY_EMULATOR_HOST",
    "BATON_BIGQUERY_STORAGE_ENDPOINT",
    "BATON_DATAFLOW_ENDPOINT",
    "BATON_AIPLATFORM_ENDPOINT",
    "BATON_LOGGING_ENDPOINT",
    "BATON_PUBSUB_METRICS",
    "GCE_METADATA_HOST",
)
# A laptop's jobs take seconds, so the workers look sooner than the cloud's defaults would have them.
_LOCAL_PACE = {"BATON_POLL_MAX_S": "0.5", "BATON_SWEEP_S": "5", "BATON_SETTLE_S": "5", "BATON_BACKOFF_FIRST_S": "1"}
# A person's own credentials: never sent to a local server.
_CREDENTIALS = ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_API_CERTIFICATE_CONFIG")
_LOOPBACK = "127.0.0.1,localhost"
_KNOCK_S = 1.0
_KNOCK_AGAIN_S = 0.1
_PATIENCE_S = 15.0


@dataclass(frozen=True, slots=True)
class Profile:
    """The settings of one cloud.

    Args:
        variables: environment variables to set for us and for our children.
        removed: environment variables to take away.
        home: where the local cloud keeps its data and its logs.
        source: where the settings come from, for people: "environment" or the path of endpoints.json.
    """

    variables: Mapping[str, str]
    home: Path
    source: str
    removed: tuple[str, ...] = ()
    is_local: bool = False

    @property
    def project(self) -> str:
        return self._required("GOOGLE_CLOUD_PROJECT", "the project id")

    @property
    def bucket(self) -> str:
        """The pipeline bucket: ledger, templates and artifacts."""
        return self._required("BATON_BUCKET", "the bucket of the ledger and the artifacts")

    @property
    def data_bucket(self) -> str:
        """The bucket whose new objects start runs."""
        return self.get("BATON_DATA_BUCKET") or f"{self.project}-data"

    @property
    def region(self) -> str:
        return self.get("BATON_REGION") or DEFAULT_REGION

    @property
    def pipelines_dir(self) -> Path:
        return Path(self.get("BATON_PIPELINES_DIR") or "pipelines")

    @property
    def is_emulated(self) -> bool:
        """Whether the services are emulators, whose answers cost nothing and come at once."""
        return bool(self.get("PUBSUB_EMULATOR_HOST"))

    def get(self, name: str) -> str:
        """Return a variable, "" where it is unset or empty."""
        return self.variables.get(name, "").strip()

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """Return `base` as a child of ours should see it."""
        merged = {name: value for name, value in base.items() if name not in self.removed}
        return {**merged, **self.variables}

    def apply(self, environment: MutableMapping[str, str] = os.environ) -> None:
        """Set the variables in this process, where Google's clients look for them."""
        for name in self.removed:
            environment.pop(name, None)
        environment.update(self.variables)

    def silent_addresses(self, wanted: Collection[str] = ADDRESSES) -> list[tuple[str, str]]:
        """Return (variable, address) of every wanted endpoint that was set and at which nothing answers."""
        answers: dict[str, bool] = {}
        silent = []
        for name, address in self.addresses():
            if name not in wanted:
                continue
            if address not in answers:
                answers[address] = is_listening(address)
            if not answers[address]:
                silent.append((name, address))
        return silent

    def addresses(self) -> Iterator[tuple[str, str]]:
        """Yield (variable, host:port) of every endpoint that is set, but for https ones: a proxy may lead there.

        Raises:
            ProfileError: one is no address.
        """
        for name in ADDRESSES:
            value = self.get(name)
            if not value or value.startswith("https:"):
                continue
            try:
                yield name, host_and_port(value)
            except ValueError as fault:
                mend = f"give a host and a port, like 127.0.0.1:8085 (settings: {self.source})"
                raise ProfileError(f"{name}={value} is no address ({fault})", mend) from fault

    def require_answers(self, patience_s: float = _PATIENCE_S, wanted: Collection[str] = ADDRESSES) -> None:
        """Refuse to go on where an endpoint that was set does not answer; Google's clients would try for minutes.

        Args:
            patience_s: how long to wait for a local cloud whose `baton up` lives: it is starting, or starting again.
            wanted: the endpoints that the command needs.

        Raises:
            Unreachable: names the endpoint and the mend.
        """
        deadline = time.monotonic() + patience_s
        while silent := self.silent_addresses(wanted):
            if not (self.is_local and is_up(self.home)) or time.monotonic() > deadline:
                break
            time.sleep(_KNOCK_AGAIN_S)
        if silent:
            name, address = silent[0]
            more = f" (and {len(silent) - 1} more)" if len(silent) > 1 else ""
            mend = "start it with `baton up`" if self.is_local else f"start it, or mend {name}"
            raise Unreachable(f"nothing answers at {name}={address}{more}, as {self.source} says", mend)

    def _required(self, name: str, meaning: str) -> str:
        value = self.get(name)
        if not value:
            raise ProfileError(
                f"{name} is not set ({meaning})",
                f"set it, or run `baton up` for a local cloud (settings: {self.source})",
            )
        return value


def load_profile(environment: Mapping[str, str] = os.environ, start: Path | None = None) -> Profile:
    """Return the profile that this environment, in the folder `start`, asks for.

    Raises:
        ProfileError: nothing is set and no local cloud is found, or its file cannot be read.
    """
    start = Path.cwd() if start is None else start
    home = find_home(environment, start)
    path = home / ENDPOINTS
    if environment.get("PUBSUB_EMULATOR_HOST") or environment.get("GOOGLE_CLOUD_PROJECT"):
        return Profile(variables=dict(environment), home=home, source=_environment_source(environment, path))
    if not path.is_file():
        raise ProfileError(
            f"no cloud is set: GOOGLE_CLOUD_PROJECT is unset and {path} is not there",
            "start the local cloud with `baton up`, or set GOOGLE_CLOUD_PROJECT and BATON_BUCKET",
        )
    return local_profile(environment, home, read_endpoints(path))


def local_profile(environment: Mapping[str, str], home: Path, endpoints: Mapping[str, str]) -> Profile:
    """Return the profile of the local cloud at `home`: its endpoints, and defaults for what it does not say."""
    project = endpoints.get("GOOGLE_CLOUD_PROJECT", LOCAL_PROJECT)
    defaults = {
        "GOOGLE_CLOUD_PROJECT": project,
        "BATON_BUCKET": f"{project}-pipeline",
        "BATON_DATA_BUCKET": f"{project}-data",
        "BATON_REGION": DEFAULT_REGION,
        **_LOCAL_PACE,
    }
    if (root := find_root(home)) is not None:
        defaults["BATON_PIPELINES_DIR"] = str(root / "pipelines")
    ours = {name: value for name, value in environment.items() if name.startswith("BATON_")}
    loopback = {name: _with_loopback(environment.get(name, "")) for name in ("NO_PROXY", "no_proxy")}
    return Profile(
        variables={**defaults, **ours, **endpoints, **loopback},
        home=home,
        source=str(home / ENDPOINTS),
        removed=_CREDENTIALS,
        is_local=True,
    )


def find_home(environment: Mapping[str, str], start: Path) -> Path:
    """Return the folder of the local cloud: `BATON_HOME`, or the nearest `.baton` here or above, or `.baton` here."""
    if environment.get(HOME_VARIABLE):
        return Path(environment[HOME_VARIABLE])
    for folder in (start, *start.resolve().parents):
        found = folder / DEFAULT_HOME
        # Somebody else's `.baton` in a shared folder above could point us at a server of theirs.
        if (found / ENDPOINTS).is_file() and found.stat().st_uid == os.getuid():
            return found
    return start / DEFAULT_HOME


def find_root(home: Path) -> Path | None:
    """Return the folder that holds `pipelines/`: beside the local cloud's, or here, or Baton's own source tree."""
    candidates = (home.resolve().parent, Path.cwd(), Path(__file__).resolve().parents[1])
    return next((folder for folder in candidates if (folder / "pipelines").is_dir()), None)


def read_endpoints(path: Path) -> dict[str, str]:
    """Read `endpoints.json`.

    Raises:
        ProfileError: it is not a JSON object of texts.
    """
    mend = "remove it and start the local cloud with `baton up`"
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise ProfileError(f"{path} cannot be read ({fault})", mend) from fault
    if not isinstance(body, dict) or not all(isinstance(value, str) for value in body.values()):
        raise ProfileError(f"{path} is no table of names and texts", mend)
    return body


def host_and_port(address: str) -> str:
    """Return `host:port` of an address with or without a scheme.

    Raises:
        ValueError: it is none.
    """
    parts = urlsplit(address if "://" in address else f"//{address}")
    if not parts.hostname:
        raise ValueError("it names no host")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.hostname}:{port}"


def is_listening(address: str, timeout_s: float = _KNOCK_S) -> bool:
    """Tell whether something accepts connections at `host:port`."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=timeout_s):
            return True
    except OSError:
        return False


def _environment_source(environment: Mapping[str, str], path: Path) -> str:
    """Say why a local cloud that is there is left alone: nobody expects a variable set weeks ago to do that."""
    if environment.get("PUBSUB_EMULATOR_HOST") or not path.is_file():
        return "the environment"
    return f"the environment (GOOGLE_CLOUD_PROJECT is set, so the local cloud of {path} is left alone; unset it to use that)"


def _with_loopback(value: str) -> str:
    return f"{value},{_LOOPBACK}" if value and _LOOPBACK not in value else value or _LOOPBACK
