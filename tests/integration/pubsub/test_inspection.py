"""Statistics, peeking and metrics of a running broker."""

import base64
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format, struct_pb2
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.pubsub.conftest import SUBSCRIPTION, TOPIC, Running


def _inspect(running: Running, method: str, **request: Any) -> Any:
    stub = running.channel.unary_unary(
        f"/localcloud.pubsub.Inspection/{method}",
        request_serializer=lambda value: json_format.ParseDict(value, struct_pb2.Struct()).SerializeToString(),
        response_deserializer=struct_pb2.Struct.FromString,
    )
    return json_format.MessageToDict(stub(request, timeout=10))


@pytest.fixture
def measured(tmp_path: Path) -> Iterator[Running]:
    started = Running(tmp_path, metrics_port=0)
    yield started
    started.stop()


def test_stats_count_the_backlog(running: Running) -> None:
    """Backlog, outstanding and acked add up, before anybody pulled and after."""
    running.create()
    running.publish(*[b"x"] * 30)
    [before] = _inspect(running, "Stats")["subscriptions"]
    assert before["backlog_messages"] == 30
    received = running.pull(10)
    running.ack(*[item.ack_id for item in received[:4]])
    stats = _inspect(running, "Stats")
    [after] = stats["subscriptions"]
    assert after["backlog_messages"] == 26
    assert after["acked_messages"] == 4
    assert after["oldest_unacked_age_s"] >= 0
    assert stats["topics"] == [
        {
            "name": TOPIC,
            "subscriptions": 1,
            "published_messages": 30,
            "published_bytes": stats["topics"][0]["published_bytes"],
        }
    ]


def test_peek_leaves_messages_where_they_are(running: Running) -> None:
    """Peeking shows unacked messages, leased or not, pages by id, and takes nothing away."""
    running.create()
    ids = running.publish(b"a", b"b", b"c", b"d", attributes={"k": "v"})
    received = running.pull(2)
    running.ack(received[0].ack_id)
    first = _inspect(running, "Peek", subscription=SUBSCRIPTION, max_messages=2)["messages"]
    assert [item["message_id"] for item in first] == ids[1:3]
    assert [item["is_leased"] for item in first] == [True, False]
    assert base64.b64decode(first[0]["data_base64"]) == b"b"
    assert first[0]["attributes"] == {"k": "v"}
    rest = _inspect(running, "Peek", subscription=SUBSCRIPTION, after=ids[2])["messages"]
    assert [item["message_id"] for item in rest] == ids[3:]
    assert [item.message.data for item in running.pull()] == [b"c", b"d"]


@pytest.mark.parametrize("request_", [{}, {"subscription": SUBSCRIPTION, "max_messages": 0}])
def test_bad_peek_is_refused(running: Running, request_: dict[str, Any]) -> None:
    """A peek without a subscription, or of nothing, is INVALID_ARGUMENT."""
    running.create()
    with pytest.raises(grpc.RpcError) as failure:
        _inspect(running, "Peek", **request_)
    assert failure.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_metrics_are_prometheus_text(measured: Running) -> None:
    """`GET /metrics` parses as Prometheus text and carries the backlog."""
    measured.create()
    measured.publish(b"a", b"b")
    url = f"http://127.0.0.1:{measured.server.metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        families = {family.name: family for family in text_string_to_metric_families(answer.read().decode())}
    [sample] = families["pubsub_subscription_num_undelivered_messages"].samples
    assert sample.value == 2
    assert sample.labels == {"subscription": SUBSCRIPTION}
    assert families["pubsub_topic_published_messages"].samples[0].value == 2


def test_only_metrics_are_served(measured: Running) -> None:
    """Another path is not found."""
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://127.0.0.1:{measured.server.metrics_port}/", timeout=10)


def test_opentelemetry_reads_the_same_figures(running: Running) -> None:
    """A meter of the OpenTelemetry SDK collects the backlog by subscription."""
    running.create()
    running.publish(b"a", b"b", b"c")
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader]).get_meter("test")
    running.run(running.server.observe(meter, Observation))
    collected = reader.get_metrics_data()
    assert collected is not None
    metrics = {
        metric.name: metric.data.data_points
        for resource in collected.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    [point] = metrics["pubsub_subscription_num_undelivered_messages"]
    assert point.attributes == {"subscription": SUBSCRIPTION}
    assert point.value == 3  # type: ignore[union-attr]
    assert "pubsub_topic_published_messages_total" in metrics
