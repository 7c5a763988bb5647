"""The environment that leads Google's clients, and ours, to the local cloud instead of the real one.

Written to `endpoints.json` in the data directory when everything answers; a client process puts it into its
environment. In the cloud none of these variables is set.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from localcloud.files import write_atomically

FILE = "endpoints.json"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")

# Each part's doors: the name of its port, and the variables that hold its address. `{url}` is http://HOST:PORT.
_VARIABLES: dict[str, dict[str, str]] = {
    "pubsub": {"PUBSUB_EMULATOR_HOST": "{address}"},
    "pubsub-metrics": {"BATON_PUBSUB_METRICS": "{url}/metrics"},
    "storage": {"STORAGE_EMULATOR_HOST": "{url}"},
    "bigquery": {"BIGQUERY_EMULATOR_HOST": "{url}"},
    "bigquery-storage": {"BATON_BIGQUERY_STORAGE_ENDPOINT": "{address}"},
    "jobs": {
        "BATON_DATAFLOW_ENDPOINT": "{url}",
        "BATON_AIPLATFORM_ENDPOINT": "{url}",
        "BATON_LOGGING_ENDPOINT": "{url}",
    },
    "metadata": {"GCE_METADATA_HOST": "{address}", "GCE_METADATA_IP": "{address}"},
}
PORT_NAMES = frozenset(_VARIABLES)


def variables(name: str, host: str, port: int) -> dict[str, str]:
    """The variables that lead to one door."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  (compared, not bound)
    address = f"[{reachable}]:{port}" if ":" in reachable else f"{reachable}:{port}"
    return {
        variable: form.format(address=address, url=f"http://{address}") for variable, form in _VARIABLES[name].items()
    }


def common(project: str, data_dir: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """What a client needs besides addresses.

    The empty CLOUDSDK_CONFIG hides a person's own gcloud login: its real token would go to the local server.
    Loopback is kept from any proxy; whatever `environment` excepts from it already stays excepted.
    """
    hidden = data_dir / "empty-gcloud-config"
    hidden.mkdir(parents=True, exist_ok=True)
    found = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    without = ",".join([*filter(None, found.split(",")), *(host for host in _LOOPBACK if host not in found)])
    return {
        "GOOGLE_CLOUD_PROJECT": project,
        "CLOUDSDK_CONFIG": str(hidden.resolve()),
        "NO_PROXY": without,
        "no_proxy": without,
    }


def write(data_dir: Path, environment: Mapping[str, str]) -> Path:
    """Write `endpoints.json`; return its path."""
    path = data_dir / FILE
    write_atomically(path, json.dumps(dict(environment), indent=2) + "\n")
    return path
