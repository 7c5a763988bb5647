"""A worker's settings: one frozen object, read from the environment once, in `main()`.

`TABLE` is the only list of them: `--help`, the documentation and the reader below are made from it. Standard names stay
standard (`GOOGLE_CLOUD_PROJECT`, `PUBSUB_EMULATOR_HOST`, which Google's client reads itself); ours begin with `BATON_`.
Local and cloud differ by the endpoint settings alone.
"""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from workers.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Option:
    """One setting: its variable, its default (None = required) and what it means; numbers have a range."""

    field: str
    variable: str
    default: str | None
    help: str
    kind: type = str
    minimum: float = float("-inf")
    maximum: float = float("inf")


TABLE: tuple[Option, ...] = (
    Option("project", "GOOGLE_CLOUD_PROJECT", None, "Google Cloud project id"),
    Option("bucket", "BATON_BUCKET", None, "bucket of the ledger and the artifacts"),
    Option("region", "BATON_REGION", "us-central1", "region of the jobs, unless a run names another"),
    Option("pipelines_dir", "BATON_PIPELINES_DIR", "pipelines", "folder with one TOML per pipeline", Path),
    Option(
        "image_prefix",
        "BATON_IMAGE_PREFIX",
        "",
        "registry path of the images; unset = REGION-docker.pkg.dev/PROJECT/baton",
    ),
    Option("image_tag", "BATON_IMAGE_TAG", "latest", "tag of the job images"),
    Option("service_account", "BATON_JOB_SERVICE_ACCOUNT", "", "service account of the jobs; unset = the default one"),
    Option("dataflow_endpoint", "BATON_DATAFLOW_ENDPOINT", "", "Dataflow's address; unset = Google's"),
    Option(
        "aiplatform_endpoint", "BATON_AIPLATFORM_ENDPOINT", "", "Vertex AI's address; unset = Google's in the region"
    ),
    Option("storage_endpoint", "STORAGE_EMULATOR_HOST", "", "Cloud Storage's address; unset = Google's"),
    Option(
        "poll_first_s", "BATON_POLL_FIRST_S", "0.1", "first wait before asking for a job's state, s", float, 0.001, 60
    ),
    Option("poll_max_s", "BATON_POLL_MAX_S", "30", "longest wait between two questions, s", float, 0.001, 3600),
    Option(
        "sweep_s", "BATON_SWEEP_S", "15", "interval of the search for work a dead worker left, s", float, 0.05, 3600
    ),
    Option("cancel_s", "BATON_CANCEL_S", "2", "interval at which cancelled runs are looked for, s", float, 0.05, 3600),
    Option(
        "strays_s", "BATON_STRAYS_S", "60", "interval of the search for jobs nobody counts on, s", float, 0.05, 3600
    ),
    Option("settle_s", "BATON_SETTLE_S", "10", "how long a launch is left to who began it, s", float, 0.05, 3600),
    Option("backoff_first_s", "BATON_BACKOFF_FIRST_S", "2", "wait before a next attempt, s; doubles", float, 0, 3600),
    Option("threads", "BATON_THREADS", "8", "runs that are advanced at the same time", int, 1, 256),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """See `TABLE` for what each means; times in seconds."""

    project: str
    bucket: str
    region: str
    pipelines_dir: Path
    image_prefix: str
    image_tag: str
    service_account: str
    dataflow_endpoint: str
    aiplatform_endpoint: str
    poll_first_s: float
    poll_max_s: float
    sweep_s: float
    cancel_s: float
    strays_s: float
    settle_s: float
    backoff_first_s: float
    threads: int
    storage_endpoint: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Read the settings.

        Raises:
            SettingsError: names the variable, its value and the mend.
        """
        values = {option.field: _read(option, environment) for option in TABLE}
        if not values["image_prefix"]:
            values["image_prefix"] = f"{values['region']}-docker.pkg.dev/{values['project']}/baton"
        for option in TABLE:
            if option.field.endswith("_endpoint") and values[option.field]:
                _check_endpoint(option.variable, values[option.field])
        if values["poll_max_s"] < values["poll_first_s"]:
            raise SettingsError(
                f"BATON_POLL_MAX_S={values['poll_max_s']} is below BATON_POLL_FIRST_S={values['poll_first_s']}; raise it"
            )
        return cls(**values)

    def image(self, name: str) -> str:
        """Return the full URI of the image `name`; a name with a registry in it is taken as it is."""
        return name if "/" in name else f"{self.image_prefix}/{name}:{self.image_tag}"


def worker_id(pid: int | None = None, nonce: bytes | None = None) -> str:
    """Return a name that no other worker process has, not even this one after a restart."""
    nonce = os.urandom(4) if nonce is None else nonce
    return f"{socket.gethostname()}-{os.getpid() if pid is None else pid}-{nonce.hex()}"


def help_text() -> str:
    """Return the settings as `--help` shows them."""
    rows = [(option.variable, option.default, option.help) for option in TABLE]
    width = max(len(variable) for variable, _, _ in rows)
    lines = []
    for variable, default, text in rows:
        suffix = "  (required)" if default is None else f"  [{default}]" if default else ""
        lines.append(f"  {variable:<{width}}  {text}{suffix}")
    return "\n".join(lines)


def _read(option: Option, environment: Mapping[str, str]) -> Any:
    text = environment.get(option.variable)
    if text is None or not text.strip():
        if option.default is None:
            state = "unset" if text is None else "empty"
            raise SettingsError(f"{option.variable} is {state} ({option.help}); set it, or see `baton doctor`")
        text = option.default
    text = text.strip()
    if option.kind in (str, Path):
        return option.kind(text)
    try:
        value = option.kind(text)
    except ValueError:
        raise SettingsError(
            f"{option.variable}={text!r} is not a number ({option.help}); set one like {option.default}"
        ) from None
    if not option.minimum <= value <= option.maximum:
        raise SettingsError(
            f"{option.variable}={value} is out of range ({option.help}); set it from {option.minimum} to {option.maximum}"
        )
    return value


def _check_endpoint(variable: str, value: str) -> None:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise SettingsError(f"{variable}={value!r} is not an address; set one like http://127.0.0.1:8086, or unset it")
