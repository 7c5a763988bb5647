"""What is asked of Google's services, and how their answers are compared with what is needed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.pubsub_v1 import types

from baton import joblogs, setup
from baton.runs import Run, RunState, StageView, Step
from baton.setup import subscription_differences, wanted_subscription
from baton.tracking import ROLLOUT_PHASES
from messages.topics import AUDIT_SUBSCRIPTIONS, SUBSCRIPTIONS
from workers.deploy import Deploy
from workers.endpoint import deployed_model_id_of
from workers.settings import Settings


def step(job_id: str) -> Step:
    return Step(datetime(2026, 11, 21, tzinfo=UTC), "running", 1, "p", job_id, "w", "")


def as_created(name: str, **changes: Any) -> types.Subscription:
    """Return a subscription as Pub/Sub would describe what we asked for, but for `changes`."""
    return types.Subscription(**{**wanted_subscription("p", name), **changes})


@pytest.mark.parametrize("name", sorted({**SUBSCRIPTIONS, **AUDIT_SUBSCRIPTIONS}))
def test_what_set_up_creates_is_what_it_looks_for(name: str) -> None:
    """A subscription just made differs in nothing."""
    assert subscription_differences(wanted_subscription("p", name), as_created(name)) == []


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"topic": "projects/p/topics/other"}, "topic is 'projects/p/topics/other'"),
        ({"ack_deadline_seconds": 60}, "ack_deadline_seconds is 60, should be 10"),
        ({"filter": 'attributes.x = "1"'}, "filter is"),
        ({"dead_letter_policy": {}}, "dead letter topic is '', should be 'projects/p/topics/dead-letter'"),
        ({"enable_exactly_once_delivery": True}, "enable_exactly_once_delivery is True, should be False"),
        ({"message_retention_duration": timedelta(minutes=10)}, "message_retention_duration is"),
        ({"push_config": {"push_endpoint": "https://x"}}, "push endpoint is 'https://x'"),
    ],
)
def test_each_difference_is_named_with_what_it_should_be(changes: dict[str, Any], difference: str) -> None:
    """Those that would make the workers fail, or lose messages."""
    found = subscription_differences(wanted_subscription("p", "train-worker"), as_created("train-worker", **changes))
    assert any(text.startswith(difference) for text in found), found


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("us-central1-docker.pkg.dev/baton-local/baton/baton-beam-babyweight:latest", "r/p/baton-beam-babyweight:v7"),
        ("baton-beam-babyweight", "r/p/baton-beam-babyweight:v7"),
        ("gcr.io/other/image:1", "gcr.io/other/image:1"),
    ],
)
def test_our_images_move_to_the_registry_of_the_settings(image: str, expected: str) -> None:
    """Other people's stay where they are."""
    settings = Settings.from_environment(
        {"GOOGLE_CLOUD_PROJECT": "p", "BATON_BUCKET": "b", "BATON_IMAGE_PREFIX": "r/p", "BATON_IMAGE_TAG": "v7"}
    )
    assert setup.relocated(image, settings) == expected


def test_logs_are_asked_for_by_job_over_all_attempts() -> None:
    """A Vertex AI job is known to Cloud Logging by the last part of its name; a rollout by its deployed models."""
    train = StageView("train", attempt=2, history=(step("projects/p/locations/l/customJobs/7"), step(""), step("8")))
    deploy = StageView("deploy", attempt=2)
    run = Run("run-1", "babyweight", RunState.RUNNING, (train, deploy))
    assert joblogs.filters_of(run, train) == [
        ("7", 'resource.labels.job_id="7"'),
        ("8", 'resource.labels.job_id="8"'),
    ]
    ids = [deployed_model_id_of("run-1", 1), deployed_model_id_of("run-1", 2)]
    assert joblogs.filters_of(run, deploy) == [(id_, f'labels.deployed_model_id="{id_}"') for id_ in ids]


def test_the_phases_of_a_rollout_are_those_that_the_worker_has() -> None:
    """The progress of a rollout is counted in them."""
    nothing: Any = None
    phases = Deploy(nothing, nothing, nothing, nothing, nothing).phases
    assert tuple(phase.name for phase in phases) == ROLLOUT_PHASES
