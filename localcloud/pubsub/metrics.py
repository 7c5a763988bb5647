"""The broker's counts as Prometheus text over HTTP, and as OpenTelemetry instruments.

The names follow Cloud Monitoring's `pubsub.googleapis.com/subscription/…` metrics where there is one.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from localcloud.pubsub.inspection import Inspector

_REQUEST_LIMIT_BYTES = 8192
_TIMEOUT_S = 5.0

# (metric name, kind, field of the statistics, help)
_SUBSCRIPTION_METRICS = (
    ("pubsub_subscription_num_undelivered_messages", "gauge", "backlog_messages", "Unacked messages."),
    ("pubsub_subscription_oldest_unacked_message_age_seconds", "gauge", "oldest_unacked_age_s", "Age of the oldest."),
    ("pubsub_subscription_num_outstanding_messages", "gauge", "outstanding_messages", "Delivered and not yet acked."),
    ("pubsub_subscription_open_readers", "gauge", "readers", "Open streams, waiting pulls and push loops."),
    ("pubsub_subscription_delivered_messages_total", "counter", "delivered_messages", "Deliveries since the start."),
    ("pubsub_subscription_acked_messages_total", "counter", "acked_messages", "Acks since the start."),
    ("pubsub_subscription_nacked_messages_total", "counter", "nacked_messages", "Nacks since the start."),
    ("pubsub_subscription_expired_leases_total", "counter", "expired_messages", "Missed deadlines since the start."),
    ("pubsub_subscription_dead_letter_messages_total", "counter", "dead_lettered_messages", "Dead-lettered."),
)
_TOPIC_METRICS = (
    ("pubsub_topic_published_messages_total", "counter", "published_messages", "Published since the start."),
    ("pubsub_topic_published_bytes_total", "counter", "published_bytes", "Bytes published since the start."),
)


def prometheus_text(stats: dict[str, list[dict[str, Any]]]) -> str:
    """The statistics in Prometheus' text format, version 0.0.4."""
    lines: list[str] = []
    for metrics, label in ((_TOPIC_METRICS, "topic"), (_SUBSCRIPTION_METRICS, "subscription")):
        for name, kind, field, text in metrics:
            lines += (f"# HELP {name} {text}", f"# TYPE {name} {kind}")
            lines += (f'{name}{{{label}="{_escape(item["name"])}"}} {item[field]}' for item in stats[f"{label}s"])
    return "\n".join(lines) + "\n"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


class MetricsServer:
    """`GET /metrics` on a port of its own: nothing else, so no web framework is loaded for it."""

    def __init__(self, inspector: Inspector, host: str, port: int) -> None:
        self._inspector = inspector
        self._host = host
        self._port = port
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Bind and serve; returns the port."""
        self._server = await asyncio.start_server(self._serve, self._host, self._port, limit=_REQUEST_LIMIT_BYTES)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close the socket."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await self._answer(head.split(b"\r\n", 1)[0].decode("latin-1")))
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass  # a peer that does not finish its request gets no answer
        finally:
            writer.close()

    async def _answer(self, request_line: str) -> bytes:
        if request_line.split(" ")[:2] != ["GET", "/metrics"]:
            return _response("404 Not Found", "only GET /metrics is served here\n")
        return _response("200 OK", prometheus_text(await self._inspector.stats()))


def _response(status: str, body: str) -> bytes:
    content = body.encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
        f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode("ascii") + content


class Observer:
    """The same figures as observable instruments of an OpenTelemetry meter.

    An exporter asks on a thread of its own, so it is answered from the newest statistics, at most `every_s` old.
    """

    def __init__(self, inspector: Inspector, every_s: float = 5.0) -> None:
        self._inspector = inspector
        self._every_s = every_s
        self._latest: dict[str, list[dict[str, Any]]] = {"topics": [], "subscriptions": []}
        self._task: asyncio.Task[None] | None = None

    async def register(self, meter: Any, observation: Any) -> None:
        """Create the instruments.

        Args:
            meter: an `opentelemetry.metrics.Meter`.
            observation: the class `opentelemetry.metrics.Observation`; passed in, for the broker does not need the package.
        """
        self._latest = await self._inspector.stats()
        for metrics, label in ((_TOPIC_METRICS, "topic"), (_SUBSCRIPTION_METRICS, "subscription")):
            for name, kind, field, text in metrics:
                create = meter.create_observable_counter if kind == "counter" else meter.create_observable_gauge
                create(name, callbacks=[self._callback(label, field, observation)], description=text)
        self._task = self._task or asyncio.get_running_loop().create_task(self._refresh(), name="pubsub statistics")

    def _callback(self, label: str, field: str, observation: Any) -> Callable[[Any], Iterable[Any]]:
        return lambda options: [observation(item[field], {label: item["name"]}) for item in self._latest[f"{label}s"]]

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            self._latest = await self._inspector.stats()

    def stop(self) -> None:
        """Refresh no more."""
        if self._task is not None:
            self._task.cancel()
