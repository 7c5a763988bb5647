"""BigQuery and Cloud Storage subscriptions, into the local BigQuery and Storage."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import httpx
import pytest

from localcloud.bigquery import BigQueryServer
from localcloud.pubsub import wire
from localcloud.pubsub.clock import ManualClock
from localcloud.storage import StorageServer
from tests.integration.pubsub.conftest import SUBSCRIPTION, Running
from tests.support.waiting import wait_until

PROJECT = "baton-local"


class House:
    """A broker with a Storage beside it, on a clock moved by hand, and a BigQuery if asked for."""

    def __init__(self, tmp_path: Path, parts: tuple[str, ...]) -> None:
        self.clock = ManualClock()
        self.environment: dict[str, str] = {}
        self.running = Running(tmp_path / "pubsub", clock=self.clock, environment=self.environment)
        self._parts: list[Any] = []
        if "storage" in parts:
            url = self._start(StorageServer, tmp_path / "storage")
            self.environment["STORAGE_EMULATOR_HOST"] = url
        if "bigquery" in parts:
            url = self._start(BigQueryServer, tmp_path / "bigquery")
            self.environment["BIGQUERY_EMULATOR_HOST"] = url

    def _start(self, part: Any, data_dir: Path) -> str:
        async def start() -> int:
            server = part(data_dir=data_dir)
            port: int = await server.start()
            self._parts.append(server)
            return port

        return f"http://127.0.0.1:{self.running.run(start())}"

    def call(self, service: str, method: str, path: str, **body: Any) -> Any:
        answer = httpx.request(method, self.environment[f"{service}_EMULATOR_HOST"] + path, timeout=20, **body)
        answer.raise_for_status()
        return answer

    def advance(self, seconds: float) -> None:
        async def advance() -> None:
            self.clock.advance(seconds)

        self.running.run(advance())

    def acked(self) -> int:
        return int(self.running.server.broker.registry.subscription(SUBSCRIPTION).counts["acked"])

    def leased(self) -> int:
        return len(self.running.server.broker.registry.subscription(SUBSCRIPTION).leases.by_seq)

    def objects(self) -> list[tuple[str, bytes]]:
        """Names and contents of all objects in the bucket."""
        listed = self.call("STORAGE", "GET", "/storage/v1/b/archive/o").json().get("items", [])
        path = "/storage/v1/b/archive/o/{}?alt=media"
        return [
            (item["name"], self.call("STORAGE", "GET", path.format(item["name"].replace("/", "%2F"))).content)
            for item in listed
        ]

    def close(self) -> None:
        for part in self._parts:
            self.running.run(part.stop(0.1))
        self.running.stop()


@pytest.fixture
def house(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[House]:
    made = House(tmp_path, getattr(request, "param", ("storage",)))
    if "storage" in getattr(request, "param", ("storage",)):
        made.call("STORAGE", "POST", f"/storage/v1/b?project={PROJECT}", json={"name": "archive"})
    yield made
    made.close()


def _table(house: House, *columns: tuple[str, str]) -> None:
    datasets = f"/bigquery/v2/projects/{PROJECT}/datasets"
    house.call("BIGQUERY", "POST", datasets, json={"datasetReference": {"projectId": PROJECT, "datasetId": "births"}})
    table = {
        "tableReference": {"projectId": PROJECT, "datasetId": "births", "tableId": "raw"},
        "schema": {"fields": [{"name": name, "type": kind} for name, kind in columns]},
    }
    house.call("BIGQUERY", "POST", f"{datasets}/births/tables", json=table)


def _rows(house: House) -> list[list[Any]]:
    data = house.call("BIGQUERY", "GET", f"/bigquery/v2/projects/{PROJECT}/datasets/births/tables/raw/data").json()
    return [[cell["v"] for cell in row["f"]] for row in data.get("rows", [])]


@pytest.mark.parametrize("house", [("bigquery",)], indirect=True)
def test_messages_become_rows(house: House) -> None:
    """Each message is a row with its metadata; it is acked once BigQuery has it."""
    _table(
        house,
        ("subscription_name", "STRING"),
        ("message_id", "STRING"),
        ("publish_time", "TIMESTAMP"),
        ("attributes", "STRING"),
        ("data", "STRING"),
    )
    house.running.create(bigquery_config={"table": f"{PROJECT}.births.raw", "write_metadata": True})
    ids = house.running.publish(b"one", b"two", attributes={"a": "b"})
    wait_until(lambda: house.acked() == 2, what="two rows written")
    rows = sorted(_rows(house), key=lambda row: str(row[1]))
    assert [row[1] for row in rows] == ids
    assert [row[4] for row in rows] == ["one", "two"]
    assert rows[0][0] == SUBSCRIPTION
    assert json.loads(rows[0][3]) == {"a": "b"}


@pytest.mark.parametrize("house", [("bigquery",)], indirect=True)
def test_table_schema_takes_json_apart(house: House) -> None:
    """With use_table_schema fields become columns; what does not fit goes to the dead letters, the rest is written."""
    _table(house, ("weeks", "INTEGER"))
    house.running.call("Publisher/CreateTopic", wire.Topic(name="projects/p/topics/dead"))
    house.running.create(
        bigquery_config={"table": f"{PROJECT}.births.raw", "use_table_schema": True, "drop_unknown_fields": True},
        dead_letter_policy={"dead_letter_topic": "projects/p/topics/dead", "max_delivery_attempts": 5},
    )
    house.running.publish(b'{"weeks": 39, "other": 1}', b"not json")
    wait_until(lambda: house.acked() == 1, what="the good row written")
    counts = house.running.server.broker.registry.subscription(SUBSCRIPTION).counts

    def is_dead() -> bool:
        house.advance(1)
        return counts["dead_lettered"] == 1

    wait_until(is_dead, what="the bad message dead-lettered")
    assert _rows(house) == [["39"]]


@pytest.mark.parametrize("house", [("bigquery",)], indirect=True)
def test_missing_table_is_shown_and_nothing_is_lost(house: House) -> None:
    """While the table is missing the subscription says so; once it is there, the messages arrive."""
    house.running.create(bigquery_config={"table": f"{PROJECT}.births.raw"})
    house.running.publish(b"patient")

    def shown() -> Any:
        subscription = house.running.server.broker.registry.subscription(SUBSCRIPTION)
        return subscription.export_state == 3

    wait_until(shown, what="NOT_FOUND shown")
    _table(house, ("data", "BYTES"))

    def is_written() -> bool:
        house.advance(60)
        return house.acked() == 1

    wait_until(is_written, what="the row written")
    assert _rows(house) == [["cGF0aWVudA=="]]


def test_messages_are_gathered_into_a_text_object(house: House) -> None:
    """Messages wait for max_duration and become one object, a line each; then they are acked."""
    house.running.create(
        cloud_storage_config={
            "bucket": "archive",
            "filename_prefix": "births/",
            "filename_suffix": ".txt",
            "text_config": {},
            "max_duration": {"seconds": 60},
        }
    )
    house.running.publish(b"one", b"two")
    wait_until(lambda: house.leased() == 2, what="both messages gathered")
    house.advance(59)
    assert house.objects() == []
    house.advance(2)
    wait_until(lambda: house.acked() == 2, what="the object written")
    [(name, content)] = house.objects()
    assert content == b"one\ntwo\n"
    assert name.startswith("births/2025-06-15T")
    assert name.endswith(".txt")


def test_full_object_is_written_at_once_as_avro(house: House) -> None:
    """With max_messages reached nothing waits; Avro objects carry the metadata."""
    house.running.create(
        cloud_storage_config={"bucket": "archive", "avro_config": {"write_metadata": True}, "max_messages": 1000}
    )
    ids = house.running.publish(*[b"x"] * 1000, attributes={"a": "b"})
    wait_until(lambda: house.acked() == 1000, what="the object written")
    [(_, content)] = house.objects()
    records = list(fastavro.reader(io.BytesIO(content)))
    assert [record["message_id"] for record in records] == ids
    assert records[0]["data"] == b"x"
    assert records[0]["attributes"] == {"a": "b"}


def test_missing_bucket_keeps_the_messages(house: House) -> None:
    """A bucket that is not there: nothing is acked, and the state says NOT_FOUND."""
    house.running.create(cloud_storage_config={"bucket": "nowhere", "text_config": {}, "max_messages": 1000})
    house.running.publish(*[b"x"] * 1000)
    subscription = house.running.server.broker.registry.subscription(SUBSCRIPTION)
    wait_until(lambda: subscription.export_state == 3, what="NOT_FOUND shown")
    assert house.acked() == 0
