"""Baton's command line and Python client: start runs, watch them, read their logs, ask the model.

    from baton import Client
    run_id = Client().publish_data_ready("gs://my-data/births.csv", pipeline="babyweight")

The names below are loaded on first use, so that `baton --help` does not wait for Google's client libraries.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from baton.client import Client
    from baton.errors import BatonError
    from baton.joblogs import LogLine
    from baton.profile import Profile
    from baton.runs import Run, StageView

__all__ = ["BatonError", "Client", "LogLine", "Profile", "Run", "StageView"]

_HOMES = {
    "BatonError": "baton.errors",
    "Client": "baton.client",
    "LogLine": "baton.joblogs",
    "Profile": "baton.profile",
    "Run": "baton.runs",
    "StageView": "baton.runs",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'baton' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
