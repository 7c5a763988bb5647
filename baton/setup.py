"""Creates what the pipeline needs, through Google's own clients: the same calls on a laptop and in the cloud.

Buckets, topics, subscriptions with their dead-letter policy, the bucket's notification, and the flex templates. Every
step may be repeated: what is there stays as it is, and where it is not as it should be, that is said with the mend rather
than changed under a running system. In the cloud the same resources come from `deploy/`, with the roles they need.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from google.api_core import exceptions as google_errors

from baton.connections import KNOWN_FAULTS, Connections, explained
from baton.errors import Refused
from messages.topics import (
    AUDIT_SUBSCRIPTIONS,
    DATA_READY,
    DEAD_LETTER,
    DEAD_LETTER_SUBSCRIPTION,
    SUBSCRIPTIONS,
    TOPICS,
    subscription_path,
    topic_path,
)
from workers.settings import Settings

ACK_DEADLINE_S = 10  # as short as Pub/Sub allows: a claim takes milliseconds, and what a dying worker held comes again
BATCH_ACK_DEADLINE_S = 60  # of what commands take in by the hundred and write down first
RETRY_MIN_S, RETRY_MAX_S = 1, 600
MAX_DELIVERY_ATTEMPTS = 10
RETENTION = timedelta(days=7)
AUDIT_RETENTION = timedelta(days=31)  # the longest there is: an audit a month sees everything
INCOMING_PREFIX = "incoming/"
FINALIZE = "OBJECT_FINALIZE"
PAYLOAD_FORMAT = "JSON_API_V1"
TEMPLATES_DIR_VARIABLE = "BATON_TEMPLATES_DIR"
OUR_IMAGES = "us-central1-docker.pkg.dev/baton-local/baton/"  # as the files in deploy/templates name them
_THREADS = 8


class Outcome(StrEnum):
    """What a step found or did."""

    CREATED = "created"
    EXISTS = "exists"
    UPDATED = "updated"
    SKIPPED = "skipped"
    DIFFERS = "differs"


@dataclass(frozen=True, slots=True)
class Step:
    """One resource after the set-up; `detail` and `mend` say how it differs and what to do."""

    kind: str
    name: str
    outcome: Outcome
    detail: str = ""
    mend: str = ""

    def to_json(self) -> dict[str, str]:
        return {
            "kind": self.kind,
            "name": self.name,
            "outcome": self.outcome.value,
            "detail": self.detail,
            "mend": self.mend,
        }


def set_up(connections: Connections, report: Callable[[Step], None]) -> list[Step]:
    """Create everything that is missing; `report` is told each step as it is made.

    Raises:
        BatonError: a service refused or did not answer.
    """
    steps: list[Step] = []

    def told(found: Iterator[Step]) -> None:
        for step in found:
            report(step)
            steps.append(step)

    try:
        with ThreadPoolExecutor(_THREADS) as pool:
            told(pool.map(lambda name: ensure_bucket(connections, name), _buckets(connections)))
            told(pool.map(lambda topic: ensure_topic(connections, topic), TOPICS))
            told(pool.map(lambda name: ensure_subscription(connections, name), [*SUBSCRIPTIONS, *AUDIT_SUBSCRIPTIONS]))
        told(iter([ensure_notification(connections)]))
        told(ensure_templates(connections))
    except KNOWN_FAULTS as fault:
        raise explained(fault, "set-up") from fault
    return steps


def _buckets(connections: Connections) -> list[str]:
    return list(dict.fromkeys([connections.profile.bucket, connections.profile.data_bucket]))


def ensure_bucket(connections: Connections, name: str) -> Step:
    """Have the bucket."""
    client = connections.storage
    bucket = client.bucket(name)
    bucket.iam_configuration.uniform_bucket_level_access_enabled = True
    try:
        client.create_bucket(bucket, location=connections.profile.region)
    except google_errors.Conflict:
        try:
            client.get_bucket(name)
        except google_errors.Forbidden as fault:
            raise Refused(f"bucket {name} belongs to another project", "choose another name in BATON_BUCKET") from fault
        return Step("bucket", f"gs://{name}", Outcome.EXISTS)
    return Step("bucket", f"gs://{name}", Outcome.CREATED)


def ensure_topic(connections: Connections, topic: str) -> Step:
    """Have the topic."""
    try:
        connections.topics.create_topic(name=topic_path(connections.profile.project, topic))
    except google_errors.AlreadyExists:
        return Step("topic", topic, Outcome.EXISTS)
    return Step("topic", topic, Outcome.CREATED)


def ensure_subscription(connections: Connections, name: str) -> Step:
    """Have the subscription, and say how an existing one differs from what the workers need."""
    wanted = wanted_subscription(connections.profile.project, name)
    try:
        connections.subscriber.create_subscription(request=wanted)
    except google_errors.AlreadyExists:
        found = connections.subscriber.get_subscription(subscription=wanted["name"])
        differences = subscription_differences(wanted, found)
        if not differences:
            return Step("subscription", name, Outcome.EXISTS)
        mend = f"gcloud pubsub subscriptions delete {name}, then `baton setup` (messages in it are lost), or update it"
        return Step("subscription", name, Outcome.DIFFERS, "; ".join(differences), mend)
    return Step("subscription", name, Outcome.CREATED)


def wanted_subscription(project: str, name: str) -> dict[str, Any]:
    """Return the subscription as the request that creates it."""
    is_stage = name in SUBSCRIPTIONS and name != DEAD_LETTER_SUBSCRIPTION
    wanted: dict[str, Any] = {
        "name": subscription_path(project, name),
        "topic": topic_path(project, {**SUBSCRIPTIONS, **AUDIT_SUBSCRIPTIONS}[name]),
        "ack_deadline_seconds": ACK_DEADLINE_S if is_stage else BATCH_ACK_DEADLINE_S,
        "message_retention_duration": AUDIT_RETENTION if name in AUDIT_SUBSCRIPTIONS else RETENTION,
        "expiration_policy": {},  # without a time to live: an idle pipeline keeps its queues
        "enable_exactly_once_delivery": False,  # the ledger makes effects happen once; this would cost latency
    }
    if is_stage:
        wanted["dead_letter_policy"] = {
            "dead_letter_topic": topic_path(project, DEAD_LETTER),
            "max_delivery_attempts": MAX_DELIVERY_ATTEMPTS,
        }
        # Only where a worker gives messages back because a service is away; who looks at the others need not wait.
        wanted["retry_policy"] = {
            "minimum_backoff": timedelta(seconds=RETRY_MIN_S),
            "maximum_backoff": timedelta(seconds=RETRY_MAX_S),
        }
    return wanted


def subscription_differences(wanted: dict[str, Any], found: Any) -> list[str]:
    """Return how an existing subscription differs, each as `field is X, should be Y`."""
    dead_letter = wanted.get("dead_letter_policy", {})
    pairs = [
        ("topic", found.topic, wanted["topic"]),
        ("ack_deadline_seconds", found.ack_deadline_seconds, wanted["ack_deadline_seconds"]),
        ("filter", found.filter, ""),
        ("push endpoint", found.push_config.push_endpoint, ""),
        ("dead letter topic", found.dead_letter_policy.dead_letter_topic, dead_letter.get("dead_letter_topic", "")),
        (
            "max_delivery_attempts",
            found.dead_letter_policy.max_delivery_attempts,
            dead_letter.get("max_delivery_attempts", 0),
        ),
        ("enable_exactly_once_delivery", found.enable_exactly_once_delivery, False),
        ("message_retention_duration", found.message_retention_duration, wanted["message_retention_duration"]),
    ]
    return [f"{field} is {is_!r}, should be {should!r}" for field, is_, should in pairs if is_ != should]


def ensure_notification(connections: Connections) -> Step:
    """Have the data bucket tell data-ready about new objects below `incoming/`."""
    profile = connections.profile
    bucket = connections.storage.bucket(profile.data_bucket)
    name = f"gs://{profile.data_bucket}/{INCOMING_PREFIX} -> {DATA_READY}"
    for found in bucket.list_notifications():
        if found.topic_name == DATA_READY and found.topic_project == profile.project:
            differences = notification_differences(found)
            if not differences:
                return Step("notification", name, Outcome.EXISTS)
            mend = f"delete it with `gcloud storage buckets notifications delete {found.path}`, then `baton setup`"
            return Step("notification", name, Outcome.DIFFERS, "; ".join(differences), mend)
    bucket.notification(
        topic_name=DATA_READY,
        topic_project=profile.project,
        event_types=[FINALIZE],
        blob_name_prefix=INCOMING_PREFIX,
        payload_format=PAYLOAD_FORMAT,
    ).create()
    return Step("notification", name, Outcome.CREATED)


def notification_differences(found: Any) -> list[str]:
    """Return how an existing notification differs; one that tells of more than we need does no harm."""
    pairs = [
        ("payload_format", found.payload_format, found.payload_format == PAYLOAD_FORMAT, PAYLOAD_FORMAT),
        ("event_types", found.event_types, not found.event_types or FINALIZE in found.event_types, [FINALIZE]),
        (
            "object_name_prefix",
            found.blob_name_prefix,
            INCOMING_PREFIX.startswith(found.blob_name_prefix or ""),
            INCOMING_PREFIX,
        ),
    ]
    return [f"{field} is {is_!r}, should be {should!r}" for field, is_, is_right, should in pairs if not is_right]


def ensure_templates(connections: Connections) -> Iterator[Step]:
    """Have each pipeline's flex template in the pipeline bucket, with the image that the settings name."""
    for wanted in wanted_templates(connections, connections.catalog.names()):
        there = wanted.there()
        if wanted.content is None:
            detail = f"{wanted.path} is not here, so there is nothing to upload"
            mend = "" if there else f"write the template's container spec there, or set {TEMPLATES_DIR_VARIABLE}"
            yield Step("template", wanted.uri, Outcome.EXISTS if there else Outcome.SKIPPED, detail, mend)
        elif there == wanted.content:
            yield Step("template", wanted.uri, Outcome.EXISTS)
        else:
            wanted.blob.upload_from_string(wanted.content, content_type="application/json")
            yield Step("template", wanted.uri, Outcome.CREATED if there is None else Outcome.UPDATED)


@dataclass(frozen=True, slots=True)
class WantedTemplate:
    """A pipeline's template: the object, the file that it is made from, and its content, None without that file."""

    blob: Any
    uri: str
    path: Path
    content: bytes | None

    def there(self) -> bytes | None:
        """Return what the bucket has, or None."""
        try:
            return bytes(self.blob.download_as_bytes(checksum=None))
        except google_errors.NotFound:
            return None


def wanted_templates(connections: Connections, pipelines: Iterable[str]) -> Iterator[WantedTemplate]:
    """Yield the template of each of `pipelines` that belongs into the pipeline bucket."""
    bucket = connections.storage.bucket(connections.profile.bucket)
    for pipeline in pipelines:
        spec = connections.catalog.get(pipeline)
        if spec.preprocess is None or "://" in spec.preprocess.template:
            continue  # a template elsewhere is somebody else's to keep
        name = spec.preprocess.template
        path = templates_dir(connections) / Path(name).name
        content = template(path, connections) if path.exists() else None
        yield WantedTemplate(bucket.blob(name), f"gs://{bucket.name}/{name}", path, content)


def templates_dir(connections: Connections) -> Path:
    """Return the folder of the template files: a setting, or `deploy/templates` beside the pipelines."""
    given = connections.profile.get(TEMPLATES_DIR_VARIABLE)
    return Path(given) if given else connections.profile.pipelines_dir.parent / "deploy" / "templates"


def template(path: Path, connections: Connections) -> bytes:
    """Return a template file's content, with the names of our images in the registry of the settings.

    Raises:
        Refused: it is no container spec.
    """
    settings = connections.settings
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        body["image"] = relocated(body["image"], settings)
        environment = body.get("defaultEnvironment", {})
        if "sdkContainerImage" in environment:
            environment["sdkContainerImage"] = relocated(environment["sdkContainerImage"], settings)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
        mend = f"write a flex template's container spec there, or set {TEMPLATES_DIR_VARIABLE}"
        raise Refused(f"{path} cannot be used as a flex template ({fault!r})", mend) from fault
    return (json.dumps(body, indent=2, ensure_ascii=False) + "\n").encode()


def relocated(image: str, settings: Settings) -> str:
    """Return an image of the local project as one of the settings' registry and tag; any other stays as it is."""
    name = image.removeprefix(OUR_IMAGES)
    return settings.image(name.partition(":")[0]) if name != image or "/" not in image else image
