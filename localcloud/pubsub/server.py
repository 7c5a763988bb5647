"""Wiring: the store, the broker, the gRPC server, start and stop."""

import asyncio
import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localcloud.pubsub import wire
from localcloud.pubsub.broker import Broker
from localcloud.pubsub.clock import Clock, SystemClock
from localcloud.pubsub.errors import Unavailable
from localcloud.pubsub.filters import compile_for_stored
from localcloud.pubsub.housekeeping import Housekeeping
from localcloud.pubsub.inspection import Inspector
from localcloud.pubsub.metrics import MetricsServer, Observer
from localcloud.pubsub.outbound import Outbound
from localcloud.pubsub.publisher_service import PublisherService
from localcloud.pubsub.rpc import Methods
from localcloud.pubsub.schema_service import SchemaService
from localcloud.pubsub.schemas import Schemas
from localcloud.pubsub.snapshot_service import SnapshotService
from localcloud.pubsub.snapshots import Snapshots
from localcloud.pubsub.store import Durability, Store
from localcloud.pubsub.subscriber_service import SubscriberService
from localcloud.pubsub.transport import GrpcServer
from localcloud.pubsub.unkind import Unkind

_LOG = logging.getLogger(__name__)
_PORT_PATIENCE_S = 2.0


class PubSubServer:
    """A Pub/Sub of one's own.

    Args:
        data_dir: where messages are kept.
        host: address to bind; loopback unless told otherwise.
        port: 0 picks a free one at the first start and keeps it for the next ones.
        durability: see `Store`.
        clock: the real one unless a test passes its own.
        min_ack_deadline_s: the service's floor is 10 s; tests may lower it.
        unkind_seed: turns on unkind mode (see `unkind.py`) with this seed.
        metrics_port: serve Prometheus metrics on this port (0 picks one); None for none.
        environment: where BigQuery and Cloud Storage are (`BIGQUERY_EMULATOR_HOST`, `STORAGE_EMULATOR_HOST`), looked up
            when a subscription writes there; None for the process's own environment.
    """

    def __init__(
        self,
        *,
        data_dir: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        durability: Durability = "full",
        clock: Clock | None = None,
        min_ack_deadline_s: int = 10,
        unkind_seed: int | None = None,
        metrics_port: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._data_dir = data_dir
        self._host = host
        self._port = port
        self._store = Store(data_dir, durability)
        unkind = None if unkind_seed is None else Unkind(unkind_seed)
        self._broker = Broker(self._store, clock or SystemClock(), compile_for_stored, unkind)
        self._snapshots = Snapshots(self._broker)
        self._schemas = Schemas(self._broker)
        self._housekeeping = Housekeeping(self._broker, self._snapshots)
        self._publisher = PublisherService(self._broker, self._snapshots, self._schemas)
        self._inspector = Inspector(self._broker)
        self._outbound = Outbound(self._broker, os.environ if environment is None else environment)
        self._metrics = None if metrics_port is None else MetricsServer(self._inspector, host, metrics_port)
        self.metrics_port = 0
        self._observer = Observer(self._inspector)
        self._min_ack_deadline_s = min_ack_deadline_s
        self._server: GrpcServer | None = None

    @property
    def broker(self) -> Broker:
        """The state inside, for tests and for inspection."""
        return self._broker

    async def start(self) -> int:
        """Load what is on disk, bind and serve; ready when it returns.

        Returns:
            The port.

        Raises:
            RuntimeError: the data folder is in use, or the port cannot be bound.
        """
        self._store.open()
        self._broker.load()
        self._broker.on_reload = [self._snapshots.load, self._schemas.load, self._outbound.start]
        self._snapshots.load()
        self._schemas.load()
        self._housekeeping.start()
        await self._store.settle()
        self._server = GrpcServer(entry for service in self._services() for entry in service)
        port = await self._bind(self._server)
        self._outbound.start()
        if self._metrics is not None:
            self.metrics_port = await self._metrics.start()
        _LOG.info(
            "serving", extra={"action": "serving", "address": f"{self._host}:{port}", "data_dir": str(self._data_dir)}
        )
        return port

    def _services(self) -> tuple[Methods, ...]:
        publisher = Methods("google.pubsub.v1.Publisher")
        self._publisher.register(publisher)
        subscriber = Methods("google.pubsub.v1.Subscriber")
        SubscriberService(self._broker, self._outbound, self._min_ack_deadline_s).register(subscriber)
        SnapshotService(self._broker, self._snapshots).register(subscriber)
        schemas = Methods("google.pubsub.v1.SchemaService")
        SchemaService(self._schemas).register(schemas)
        return publisher, subscriber, schemas, self._inspector.methods()

    async def _bind(self, server: GrpcServer) -> int:
        kept = self._data_dir / "pubsub.port.json"
        if self._port == 0 and kept.exists():
            wanted = int(json.loads(kept.read_text(encoding="utf-8"))["port"])
            try:
                return await self._bind_patiently(server, wanted)
            except OSError:
                _LOG.warning("the port of the last start is taken", extra={"action": "port_taken", "port": wanted})
        try:
            port = await server.start(self._host, self._port)
        except OSError as error:
            raise RuntimeError(
                f"{self._host}:{self._port} cannot be bound ({error.strerror}); choose another --port."
            ) from None
        self._keep_port(kept, port)
        return port

    async def _bind_patiently(self, server: GrpcServer, port: int) -> int:
        """Bind a port which a predecessor that was just killed may still hold for a moment."""
        deadline_s = time.monotonic() + _PORT_PATIENCE_S
        while True:
            try:
                return await server.start(self._host, port)
            except OSError:
                if time.monotonic() > deadline_s:
                    raise
                await asyncio.sleep(0.05)

    def _keep_port(self, kept: Path, port: int) -> None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        fresh = kept.with_suffix(".tmp")
        fresh.write_text(json.dumps({"port": port}), encoding="utf-8")
        os.replace(fresh, kept)

    async def stop(self, grace_s: float = 1.0) -> None:
        """End every stream with UNAVAILABLE, which clients answer by coming back, then close the file."""
        self._housekeeping.stop()
        self._observer.stop()
        await self._outbound.stop()
        if self._metrics is not None:
            await self._metrics.stop()
        for subscription in self._broker.registry.subscriptions.values():
            for consumer in list(subscription.consumers):
                consumer.close(Unavailable("the broker is stopping; connect again."))
        if self._server is not None:
            await self._server.stop(grace_s)
            self._server = None
        await asyncio.sleep(0)
        await self._store.close()

    async def observe(self, meter: Any, observation: Any) -> None:
        """Give an OpenTelemetry meter the broker's figures; `observation` is `opentelemetry.metrics.Observation`."""
        await self._observer.register(meter, observation)

    async def publish(self, topic: str, data: bytes, attributes: dict[str, str]) -> str:
        """Publish one message from within the process; answers its id once it is on disk.

        Raises:
            NotFound: the topic does not exist.
            PubSubError: whatever else a publisher would be told.
        """
        request = wire.message_class("PublishRequest")(topic=topic)
        request.messages.add(data=data, attributes=attributes)
        answer = await self._publisher.publish(request, None)
        return str(answer.message_ids[0])
