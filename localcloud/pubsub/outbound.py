"""Subscriptions that deliver by themselves: one loop for each, started and stopped as their configuration changes."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Protocol

from localcloud.pubsub.bigquery_export import BigQuerySink
from localcloud.pubsub.broker import Broker
from localcloud.pubsub.exports import ExportLoop, Sink
from localcloud.pubsub.push import PushLoop
from localcloud.pubsub.storage_export import StorageSink
from localcloud.pubsub.subscription import Subscription

_LOG = logging.getLogger(__name__)


class _Loop(Protocol):
    async def run(self) -> None: ...


class Outbound:
    """All delivering loops of a broker.

    Args:
        environment: says where BigQuery and Cloud Storage are; looked up at each delivery, for they may start later.
    """

    def __init__(self, broker: Broker, environment: Mapping[str, str]) -> None:
        self._broker = broker
        self._environment = environment
        self._tasks: dict[Subscription, asyncio.Task[None]] = {}
        self._client: Any = None

    def start(self) -> None:
        """Start the loops of the subscriptions that are there, at the start and after a refused commit."""
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()
        for subscription in self._broker.registry.subscriptions.values():
            self.sync(subscription)

    def sync(self, subscription: Subscription) -> None:
        """Bring the loop in line with the subscription's configuration, new, changed or deleted."""
        running = self._tasks.pop(subscription, None)
        if running is not None:
            running.cancel()
        loop = self._loop_for(subscription)
        if loop is not None:
            task = asyncio.get_running_loop().create_task(loop.run(), name=f"deliver {subscription.name}")
            task.add_done_callback(self._ended)
            self._tasks[subscription] = task

    def _loop_for(self, subscription: Subscription) -> _Loop | None:
        if (
            self._broker.registry.subscriptions.get(subscription.name) is not subscription
            or subscription.config.detached
        ):
            return None
        config = subscription.config
        if subscription.settings.is_push:
            return PushLoop(self._broker, subscription, self._http())
        if config.bigquery_config.table:
            sink: Sink = BigQuerySink(subscription, self._http(), self._environment)
        elif config.cloud_storage_config.bucket:
            sink = StorageSink(subscription, self._http(), self._environment, self._broker.clock)
        else:
            return None
        return ExportLoop(self._broker, subscription, sink)

    def _http(self) -> Any:
        if self._client is None:
            import httpx  # only where something is pushed: it costs as much memory as the idle broker's messages

            limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
            self._client = httpx.AsyncClient(limits=limits, trust_env=False, follow_redirects=False)
        return self._client

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            _LOG.error(
                "a delivering loop failed",
                extra={"action": "delivery_loop_failed", "loop": task.get_name()},
                exc_info=task.exception(),
            )

    async def stop(self) -> None:
        """End all loops; what they have in hand comes again at the next start."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()
