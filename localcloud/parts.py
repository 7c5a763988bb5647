"""The parts of the local cloud, in the order they start, and how each is made.

A part is imported when it is made, so that one that is left out costs nothing, and so that a broken one is named.
"""

import os
from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from localcloud.faults import Faults

STOP_GRACE_S = 1.0


class Server(Protocol):
    """What every part looks like."""

    async def start(self) -> int:
        """Bind and load; ready when it returns the bound port."""
        ...

    async def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Close sockets and files."""
        ...


@dataclass(slots=True)
class Setup:
    """What the parts are made from.

    Attributes:
        ports: where each door should listen; 0 for a free one.
        environment: the variables of the parts that run already.
        started: those parts themselves, by name.
    """

    data_dir: Path
    host: str
    project: str
    images: Path | None
    faults: Faults
    ports: Mapping[str, int]
    environment: dict[str, str] = field(default_factory=dict)
    started: dict[str, Any] = field(default_factory=dict)

    def shape(self, name: str) -> dict[str, Any]:
        """The arguments that every part takes; its files are in the folder of its name."""
        makes_its_folder = name in ("bigquery", "jobs")
        folder = self.data_dir if makes_its_folder else self.data_dir / name
        return {"data_dir": folder, "host": self.host, "port": self.ports.get(name, 0)}


def _metadata(setup: Setup) -> Server:
    from localcloud.metadata import MetadataServer

    return MetadataServer(**setup.shape("metadata"), project=setup.project, faults=setup.faults)


def _pubsub(setup: Setup) -> Server:
    from localcloud.pubsub import PubSubServer

    # Its subscriptions write into BigQuery and Storage, which start after it: it looks the addresses up when it needs them.
    metrics_port = setup.ports.get("pubsub-metrics", 0)
    environment = ChainMap(setup.environment, dict(os.environ))
    return PubSubServer(**setup.shape("pubsub"), metrics_port=metrics_port, environment=environment)


def _storage(setup: Setup) -> Server:
    from localcloud.storage import StorageServer

    # With the broker in this process events take no detour; without it, PUBSUB_EMULATOR_HOST says where it is.
    broker = setup.started.get("pubsub")
    publish = broker.publish if broker is not None else None
    return StorageServer(**setup.shape("storage"), publish=publish, faults=setup.faults)


def _bigquery(setup: Setup) -> Server:
    from localcloud.bigquery import BigQueryServer

    return BigQueryServer(
        **setup.shape("bigquery"),
        grpc_port=setup.ports.get("bigquery-storage", 0),
        storage_endpoint=setup.environment.get("STORAGE_EMULATOR_HOST", ""),
        faults=setup.faults,
    )


def _jobs(setup: Setup) -> Server:
    from localcloud.jobs import JobsServer

    # Its children talk to the other parts: they get every variable that is known by now.
    return JobsServer(**setup.shape("jobs"), images=setup.images, endpoints=setup.environment, faults=setup.faults)


PARTS: dict[str, Callable[[Setup], Server]] = {
    "metadata": _metadata,
    "pubsub": _pubsub,
    "storage": _storage,
    "bigquery": _bigquery,
    "jobs": _jobs,
}
