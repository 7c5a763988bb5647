"""What a user gets wrong is refused or counted, with the value, the place and the mend; nothing hangs."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from messages import DataReady, Envelope, encode
from tests.support.house import BUCKET, DATA_BUCKET, PROJECT, House, house
from tests.support.waiting import wait_until

HEADER = "year,month,weight_pounds,is_male,mother_age,plurality,gestation_weeks"
END_S = 60


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("house")) as built:
        built.start()
        yield built


def pull(home: House, subscription: str) -> dict[str, Any]:
    """Take one message from a subscription."""
    import grpc
    from google.pubsub_v1.services.subscriber import SubscriberClient
    from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

    path = f"projects/{PROJECT}/subscriptions/{subscription}"
    with grpc.insecure_channel(home.environment["PUBSUB_EMULATOR_HOST"]) as channel:
        client = SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
        received = wait_until(
            lambda: client.pull(subscription=path, max_messages=1, timeout=20).received_messages, END_S, "a message"
        )
        client.acknowledge(subscription=path, ack_ids=[received[0].ack_id])
        message = received[0].message
        return {"data": message.data, "attributes": dict(message.attributes)}


def start(home: House, run_id: str, source: str, pipeline: str = "births") -> None:
    event = DataReady(pipeline=pipeline, source=source)
    home.publish("data-ready", *encode(Envelope(f"{run_id}.data-ready", run_id, "//test", datetime.now(UTC), event)))


def ended(home: House, run_id: str, stage: str = "preprocess") -> dict[str, Any]:
    wait_until(lambda: home.state(run_id, stage) == "published", END_S, f"{stage} of {run_id} ended\n{home.log(stage)}")
    record = home.record(run_id, stage)
    assert record is not None
    return record


def runs(home: House) -> set[str]:
    return {blob.name.split("/")[1] for blob in home.storage().list_blobs(BUCKET, prefix="runs/")}


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"not json", "JSON object"),
        (json.dumps({"pipeline": "nobody", "source": "gs://b/x.csv"}).encode(), "unknown"),
        (json.dumps({"pipeline": "births"}).encode(), "data.source"),
    ],
)
def test_what_cannot_be_read_is_dead_lettered_with_its_reason(home: House, data: bytes, word: str) -> None:
    """A malformed message and an unknown pipeline wait in the dead letter, with what to mend."""
    home.publish("data-ready", data, {})
    letter = pull(home, "dead-letter-inbox")
    assert letter["data"] == data
    assert word in letter["attributes"]["baton-dead-letter-reason"]


def test_a_source_that_does_not_exist_fails_the_stage_with_its_name(home: House) -> None:
    """The failure names the missing object and what to do; no later stage starts."""
    start(home, "missing-source", f"gs://{DATA_BUCKET}/nowhere.csv")
    record = ended(home, "missing-source")
    assert record["outcome"] == "failed"
    assert "nowhere.csv" in record["failure"]["message"]
    assert record["failure"]["mend"]
    assert home.record("missing-source", "train") is None


def test_an_empty_table_fails_the_stage(home: House) -> None:
    """A file with a header and no row is no data: said, not trained on."""
    home.storage().bucket(DATA_BUCKET).blob("empty.csv").upload_from_string(HEADER + "\n")
    start(home, "empty-table", f"gs://{DATA_BUCKET}/empty.csv")
    record = ended(home, "empty-table")
    assert record["outcome"] == "failed"
    assert "empty.csv" in record["failure"]["message"]


def test_broken_rows_are_counted_and_the_rest_is_used(home: House) -> None:
    """One row in twenty is broken: the run goes on with the others, and says how many were left out."""
    rows = [f"2022,{1 + n % 12},7.{n % 10},true,2{n % 10},1,39" for n in range(400)]
    for n in range(0, 400, 20):
        rows[n] = ["2022,1,heavy,true,28,1,39", "2022,1,7.1,true,28", "2022,1,-7.1,true,28,1,39"][n // 20 % 3]
    home.storage().bucket(DATA_BUCKET).blob("incoming/births/some broken.csv").upload_from_string(
        HEADER + "\n" + "\n".join(rows) + "\n"
    )
    run_id = wait_until(lambda: next((r for r in runs(home) if r.startswith("some-broken-csv-")), ""), END_S, "the run")
    record = ended(home, run_id)
    assert record["outcome"] == "succeeded"
    given = record["yields"]["dataflow"]
    assert given["rejected_rows"] == 20
    assert given["train_examples"] + given["eval_examples"] == 2 * 380
