"""The part of `baton doctor` that asks the services: buckets, queues, notification, templates, dead letters."""

import contextlib
from collections.abc import Callable, Iterator

from google.api_core import exceptions as google_errors
from google.auth.exceptions import GoogleAuthError

from baton import setup
from baton.connections import KNOWN_FAULTS, Connections, explained
from baton.dlq.archive import PREFIX
from baton.dlq.desk import DeadLetters
from baton.doctor import Finding, Verdict
from baton.errors import BatonError, NotKnown, Unreachable
from baton.profile import Profile
from messages.topics import AUDIT_SUBSCRIPTIONS, DATA_READY, DEAD_LETTER_SUBSCRIPTION, SUBSCRIPTIONS, TOPICS, topic_path
from workers.errors import PipelineError
from workers.pipeline import Catalog

_CREDENTIALS = "Google credentials"
_STORAGE, _PUBSUB = frozenset({"Cloud Storage"}), frozenset({"Pub/Sub"})
_CREATE = "create it with `baton setup`"
_SHOWN = 3
_ATTACHED = {**SUBSCRIPTIONS, **AUDIT_SUBSCRIPTIONS}


def resources(profile: Profile) -> Iterator[Finding]:
    """Yield what is well and what is missing or different among the resources.

    Without credentials, or where a service does not answer, every check would fail alike after minutes of trying again:
    that is told once, and the checks that it stops are yielded as skipped.
    """
    connections = Connections(profile)
    checks: list[tuple[str, frozenset[str], Callable[[], Iterator[Finding]]]] = [
        (f"gs://{profile.bucket}", _STORAGE, lambda: _bucket(connections, profile.bucket)),
        (f"gs://{profile.data_bucket}", _STORAGE, lambda: _bucket(connections, profile.data_bucket)),
        *((f"topic {name}", _PUBSUB, lambda name=name: _topic(connections, name)) for name in TOPICS),
        *((f"subscription {name}", _PUBSUB, lambda name=name: _subscription(connections, name)) for name in _ATTACHED),
        (f"notification of gs://{profile.data_bucket}", _STORAGE, lambda: _notification(connections)),
        ("templates", _STORAGE, lambda: _templates(connections)),
        ("dead letters", _PUBSUB | _STORAGE, lambda: _dead_letters(connections)),
    ]
    silent: dict[str, str] = {}  # service -> why what needs it is skipped
    for place, services, check in checks:
        if known := services & silent.keys():
            yield Finding(Verdict.SKIPPED, silent[min(known)], place)
            continue
        try:
            yield from check()
        except KNOWN_FAULTS as fault:
            told = explained(fault)
            if isinstance(told, Unreachable):
                yield Finding(Verdict.PROBLEM, told.message, place, "look at the network, its proxy and the address")
                silent |= dict.fromkeys(services, f"{' and '.join(sorted(services))} did not answer")
            elif isinstance(fault, GoogleAuthError):
                yield Finding(Verdict.PROBLEM, told.message, _CREDENTIALS, told.mend)
                yield Finding(Verdict.SKIPPED, f"no usable {_CREDENTIALS}", place)
                silent = dict.fromkeys(_STORAGE | _PUBSUB, f"no usable {_CREDENTIALS}")
            else:
                yield Finding(Verdict.PROBLEM, told.message, place, told.mend)
        except BatonError as fault:
            yield Finding(Verdict.PROBLEM, fault.message, place, fault.mend)


def _bucket(connections: Connections, name: str) -> Iterator[Finding]:
    if connections.storage.lookup_bucket(name) is None:
        yield Finding(Verdict.PROBLEM, "bucket is missing", f"gs://{name}", _CREATE)
    else:
        yield Finding(Verdict.OK, "bucket", f"gs://{name}")


def _topic(connections: Connections, name: str) -> Iterator[Finding]:
    try:
        connections.topics.get_topic(topic=topic_path(connections.profile.project, name))
    except google_errors.NotFound:
        yield Finding(Verdict.PROBLEM, "topic is missing", name, _CREATE)
    else:
        yield Finding(Verdict.OK, "topic", name)


def _subscription(connections: Connections, name: str) -> Iterator[Finding]:
    wanted = setup.wanted_subscription(connections.profile.project, name)
    try:
        found = connections.subscriber.get_subscription(subscription=wanted["name"])
    except google_errors.NotFound:
        yield Finding(Verdict.PROBLEM, f"subscription is missing: {_without(name)}", name, _CREATE)
        return
    differences = setup.subscription_differences(wanted, found)
    if differences:
        mend = f"update it, or delete it and run `baton setup` (messages in {name} are lost)"
        yield Finding(Verdict.PROBLEM, "subscription differs: " + "; ".join(differences), name, mend)
    else:
        yield Finding(Verdict.OK, f"subscription to {_ATTACHED[name]}", name)


def _without(name: str) -> str:
    """Say what it means that a subscription is not there."""
    if name == DEAD_LETTER_SUBSCRIPTION:
        return "the dead-letter topic has none, so what no worker can use is dropped for good"
    if name in AUDIT_SUBSCRIPTIONS:
        return f"`baton audit` does not see what is published to {AUDIT_SUBSCRIPTIONS[name]}"
    return f"what is published to {SUBSCRIPTIONS[name]} is lost"


def _notification(connections: Connections) -> Iterator[Finding]:
    profile = connections.profile
    place = f"gs://{profile.data_bucket}"
    ours = [
        found
        for found in connections.storage.bucket(profile.data_bucket).list_notifications()
        if found.topic_name == DATA_READY and found.topic_project == profile.project
    ]
    if not ours:
        yield Finding(Verdict.PROBLEM, f"no notification to {DATA_READY}: uploads start no runs", place, _CREATE)
        return
    differences = setup.notification_differences(ours[0])
    if differences:
        mend = "delete it and run `baton setup`"
        yield Finding(Verdict.PROBLEM, "notification differs: " + "; ".join(differences), place, mend)
    else:
        yield Finding(Verdict.OK, f"notification to {DATA_READY}", place)


def _templates(connections: Connections) -> Iterator[Finding]:
    for wanted in setup.wanted_templates(connections, _readable(connections.catalog)):
        there = wanted.there()
        if there is None:
            yield Finding(Verdict.PROBLEM, "flex template is missing", wanted.uri, "upload it with `baton setup`")
        elif wanted.content is not None and there != wanted.content:
            mend = "upload it with `baton setup`"
            yield Finding(Verdict.NOTE, f"flex template differs from {wanted.path}", wanted.uri, mend)
        else:
            yield Finding(Verdict.OK, "flex template", wanted.uri)


def _readable(catalog: Catalog) -> Iterator[str]:
    """Yield the pipelines that can be read; the others have been named already."""
    for name in catalog.names():
        try:
            catalog.get(name)
        except PipelineError:
            continue
        yield name


def _dead_letters(connections: Connections) -> Iterator[Finding]:
    """Tell of those that nobody has sent back; what waits in the subscription is written down first, as by `dlq ls`."""
    desk, place = DeadLetters(connections), f"gs://{connections.profile.bucket}/{PREFIX}"
    with contextlib.suppress(NotKnown):  # that the inbox is missing has been told above
        desk.collect()
    letters = desk.find()
    if not letters:
        yield Finding(Verdict.OK, "no dead letters", place)
    for letter in letters[:_SHOWN]:
        what = f"dead letter of {letter.topic or 'an unknown topic'}: {letter.reason}"
        mend = f"see `baton dlq show {letter.key}`, mend the cause, then `baton dlq redrive {letter.key}`"
        yield Finding(Verdict.NOTE, what, letter.key, mend)
    if len(letters) > _SHOWN:
        yield Finding(
            Verdict.NOTE, f"and {len(letters) - _SHOWN} dead letters more", place, "see `baton dlq ls --causes`"
        )
