"""What every child process is given: a clean environment and a log file.

The service's own environment is not inherited: only where programs, home and language are found, and the addresses of the
(local) cloud. A secret in the shell that started the local cloud stays there.
"""

import os
from collections.abc import Mapping
from pathlib import Path

# The addresses of the cloud, as the local cloud writes them to endpoints.json; unset ones are simply not passed on.
ENDPOINT_VARIABLES = (
    "PUBSUB_EMULATOR_HOST",
    "STORAGE_EMULATOR_HOST",
    "BIGQUERY_EMULATOR_HOST",
    "BATON_BIGQUERY_STORAGE_ENDPOINT",
    "BATON_DATAFLOW_ENDPOINT",
    "BATON_AIPLATFORM_ENDPOINT",
    "BATON_LOGGING_ENDPOINT",
    "GCE_METADATA_HOST",
    "GCE_METADATA_IP",
    "GOOGLE_CLOUD_PROJECT",
    "CLOUDSDK_CONFIG",
    "BATON_REGION",
    "BATON_BUCKET",
)
_INHERITED = ("PATH", "HOME", "LANG")


class Surroundings:
    """The environment and the log files of this service's children."""

    def __init__(self, endpoints: Mapping[str, str], log_directory: Path) -> None:
        self._endpoints = dict(endpoints)
        self._log_directory = log_directory

    def add_endpoints(self, endpoints: Mapping[str, str]) -> None:
        """Add addresses known only later (our own port); what the caller gave stays."""
        self._endpoints = {**endpoints, **self._endpoints}

    @property
    def storage_address(self) -> str:
        """Where Cloud Storage answers; "" when it was not given."""
        return self._endpoints.get("STORAGE_EMULATOR_HOST", "")

    def environment(self, *layers: Mapping[str, str]) -> dict[str, str]:
        """A child's environment; later layers win."""
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        merged = {**inherited, **self._endpoints}
        for layer in layers:
            merged.update(layer)
        return merged

    def log_path(self, run_id: str) -> Path:
        """The log file of a run, all its attempts together."""
        return self._log_directory / f"{run_id}.log"
