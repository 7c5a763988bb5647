"""In the whole local cloud, BigQuery and Cloud Storage subscriptions find the BigQuery and the Storage beside them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.pubsub_v1.services.publisher import PublisherClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber import SubscriberClient
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from tests.support.part_process import PartProcess
from tests.support.waiting import wait_until

PROJECT = "baton-local"
TOPIC = f"projects/{PROJECT}/topics/births"
FULL = 1000  # messages: as few as fill an object, so that it is written at once


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    with PartProcess("", tmp_path / "cloud", "--parts", "pubsub,storage,bigquery"):
        yield json.loads((tmp_path / "cloud" / "endpoints.json").read_text())


def post(url: str, body: dict[str, Any]) -> None:
    httpx.post(url, json=body, timeout=20, trust_env=False).raise_for_status()


def get(url: str) -> dict[str, Any]:
    return dict(httpx.get(url, timeout=20, trust_env=False).raise_for_status().json())


def test_messages_reach_bigquery_and_storage(environment: dict[str, str]) -> None:
    """As rows and as an object, with nothing set but the data directory."""
    bigquery = f"{environment['BIGQUERY_EMULATOR_HOST']}/bigquery/v2/projects/{PROJECT}/datasets"
    storage = f"{environment['STORAGE_EMULATOR_HOST']}/storage/v1/b"
    post(bigquery, {"datasetReference": {"projectId": PROJECT, "datasetId": "births"}})
    table = {"projectId": PROJECT, "datasetId": "births", "tableId": "raw"}
    post(
        f"{bigquery}/births/tables",
        {"tableReference": table, "schema": {"fields": [{"name": "data", "type": "STRING"}]}},
    )
    post(f"{storage}?project={PROJECT}", {"name": "archive"})
    with grpc.insecure_channel(environment["PUBSUB_EMULATOR_HOST"]) as channel:
        publisher = PublisherClient(transport=PublisherGrpcTransport(channel=channel))
        subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
        publisher.create_topic(name=TOPIC)
        for name, config in (
            ("rows", {"bigquery_config": {"table": f"{PROJECT}.births.raw"}}),
            ("objects", {"cloud_storage_config": {"bucket": "archive", "max_messages": FULL}}),
        ):
            path = f"projects/{PROJECT}/subscriptions/{name}"
            subscriber.create_subscription(request={"name": path, "topic": TOPIC, **config})
        publisher.publish(request={"topic": TOPIC, "messages": [{"data": b"%d" % index} for index in range(FULL)]})
        wait_until(lambda: get(f"{bigquery}/births/tables/raw/data").get("totalRows") == str(FULL), 30, "rows")
        wait_until(lambda: get(f"{storage}/archive/o").get("items"), 30, "an object")
