"""`baton setup` creates what is missing, and `baton doctor` finds what is wrong."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from baton.client import Client
from baton.profile import Profile
from tests.integration.baton.conftest import Baton
from tests.support.house import House

OTHER = {"GOOGLE_CLOUD_PROJECT": "other-project", "BATON_BUCKET": "other-pipeline", "BATON_DATA_BUCKET": "other-data"}
THIRD = {"GOOGLE_CLOUD_PROJECT": "third-project", "BATON_BUCKET": "third-pipeline", "BATON_DATA_BUCKET": "third-data"}


@pytest.fixture
def other(running: House, tmp_path: Path) -> Iterator[Client]:
    """A client of another project in the same cloud."""
    before = dict(os.environ)
    with Client(Profile({**running.env(), **OTHER}, home=tmp_path, source="the test")) as made:
        yield made
    os.environ.clear()
    os.environ.update(before)


def outcomes(steps: list[dict[str, str]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for step in steps:
        found.setdefault(step["kind"], set()).add(step["outcome"])
    return found


def test_a_project_goes_from_nothing_to_well_and_differences_are_named(baton: Baton, other: Client) -> None:
    """Doctor names all that is missing; set-up makes it; again it finds it there; what was changed by hand is reported."""
    missing = baton("doctor", "--json", **OTHER)
    assert missing.code == 1
    problems = [f for f in missing.json if f["verdict"] == "problem"]
    assert {f["where"] for f in problems} >= {
        "gs://other-pipeline",
        "gs://other-data",
        "data-ready",
        "dead-letter",
        "train-worker",
        "dead-letter-inbox",
        "audit-data-ready",
    }
    assert all(f["mend"] for f in problems)
    (inbox,) = [f for f in problems if f["where"] == "dead-letter-inbox"]
    assert "the dead-letter topic has none" in inbox["what"]

    first = baton("setup", "--json", **OTHER)
    assert (first.code, first.err) == (0, "")
    assert outcomes(first.json) == {
        "bucket": {"created"},
        "topic": {"created"},
        "subscription": {"created"},
        "notification": {"created"},
        "template": {"skipped"},
    }
    second = baton("setup", "--json", **OTHER)
    assert second.code == 0
    assert {kind: found for kind, found in outcomes(second.json).items() if kind != "template"} == {
        "bucket": {"exists"},
        "topic": {"exists"},
        "subscription": {"exists"},
        "notification": {"exists"},
    }

    path = "projects/other-project/subscriptions/train-worker"
    other.connections.subscriber.update_subscription(
        request={
            "subscription": {"name": path, "ack_deadline_seconds": 11},
            "update_mask": {"paths": ["ack_deadline_seconds"]},
        }
    )
    third = baton("setup", "--json", **OTHER)
    assert third.code == 1
    (differing,) = [step for step in third.json if step["outcome"] == "differs"]
    assert differing["name"] == "train-worker"
    assert differing["detail"] == "ack_deadline_seconds is 11, should be 10"
    assert "baton setup" in differing["mend"]


def test_subscriptions_are_as_the_workers_need_them(client: Client) -> None:
    """Dead letters after ten attempts, retries with backoff, a week of retention, no expiry; inbox and tap keep for ever."""

    def subscription(name: str) -> Any:
        path = f"projects/baton-local/subscriptions/{name}"
        return client.connections.subscriber.get_subscription(subscription=path)

    worker, inbox, tap = map(subscription, ("train-worker", "dead-letter-inbox", "audit-preprocess-done"))
    assert worker.topic == "projects/baton-local/topics/preprocess-done"
    assert worker.ack_deadline_seconds == 10
    assert worker.dead_letter_policy.dead_letter_topic == "projects/baton-local/topics/dead-letter"
    assert worker.dead_letter_policy.max_delivery_attempts == 10
    assert (worker.retry_policy.minimum_backoff.seconds, worker.retry_policy.maximum_backoff.seconds) == (1, 600)
    assert worker.message_retention_duration.days == 7
    assert not worker.expiration_policy.ttl
    assert not worker.enable_exactly_once_delivery
    assert not inbox.dead_letter_policy.dead_letter_topic
    assert (tap.topic, tap.message_retention_duration.days) == (worker.topic, 31)
    assert not tap.dead_letter_policy.dead_letter_topic
    assert not tap.expiration_policy.ttl


def test_the_notification_tells_of_new_data_alone(client: Client) -> None:
    """Only finished objects below incoming/, as JSON."""
    (found,) = client.connections.storage.bucket("baton-local-data").list_notifications()
    assert (found.topic_name, found.event_types, found.blob_name_prefix, found.payload_format) == (
        "data-ready",
        ["OBJECT_FINALIZE"],
        "incoming/",
        "JSON_API_V1",
    )


def test_templates_are_uploaded_with_the_images_of_the_settings(baton: Baton, client: Client, tmp_path: Path) -> None:
    """The file names the local project's image; in the bucket stands the registry's, and a changed file is sent anew."""
    (tmp_path / "quick.json").write_text(
        '{"image": "us-central1-docker.pkg.dev/baton-local/baton/quick-beam:latest", "sdkInfo": {"language": "PYTHON"}}'
    )
    (tmp_path / "one.toml").write_text('name = "one"\n[preprocess]\ntemplate = "templates/quick.json"\n')
    variables = {
        **THIRD,
        "BATON_PIPELINES_DIR": str(tmp_path),
        "BATON_TEMPLATES_DIR": str(tmp_path),
        "BATON_IMAGE_PREFIX": "europe/p",
        "BATON_IMAGE_TAG": "v7",
    }
    baton("setup", **THIRD)
    first = baton("setup", "--json", **variables)
    assert outcomes(first.json)["template"] == {"created"}
    content = client.connections.storage.bucket("third-pipeline").blob("templates/quick.json").download_as_text()
    assert '"image": "europe/p/quick-beam:v7"' in content
    assert outcomes(baton("setup", "--json", **variables).json)["template"] == {"exists"}
    assert outcomes(baton("setup", "--json", **{**variables, "BATON_IMAGE_TAG": "v8"}).json)["template"] == {"updated"}


def test_doctor_is_content_with_a_house_that_is_set_up(baton: Baton) -> None:
    """Everything is looked at; nothing is a problem."""
    answer = baton("doctor")
    assert (answer.code, answer.err) == (0, "")
    assert "all is well" in answer.out
    for what in ("Python 3", "pipeline quick", "STORAGE_EMULATOR_HOST answers", "subscription to data-ready"):
        assert what in answer.out


def test_doctor_names_a_broken_pipeline(baton: Baton, tmp_path: Path) -> None:
    """With file, line, value and mend."""
    (tmp_path / "broken.toml").write_text('name = "broken"\n[train]\nimage = 3\n')
    answer = baton("doctor", "--json", BATON_PIPELINES_DIR=str(tmp_path))
    assert answer.code == 1
    (problem,) = [f for f in answer.json if f["verdict"] == "problem"]
    assert "broken.toml:3: train.image = 3" in problem["what"]
