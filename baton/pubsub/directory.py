"""Which topics and subscriptions there are, by the official client; and finding one by the name that a person gave."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from google.api_core import exceptions as google_errors

from baton.connections import Connections
from baton.errors import NotKnown
from messages.topics import subscription_path, topic_path

_TIMEOUT_S = 15.0
_PAGE = 1000
_NEAR = 3
_NEAR_ENOUGH = 0.6
_WILDCARDS = "*?["


@dataclass(frozen=True, slots=True)
class Directory:
    """Everything of a project, in order of the names."""

    topics: tuple[Any, ...]
    subscriptions: tuple[Any, ...]


def directory(connections: Connections) -> Directory:
    """List the project's topics and subscriptions."""
    project = f"projects/{connections.profile.project}"
    topics = connections.topics.list_topics(request={"project": project, "page_size": _PAGE}, timeout=_TIMEOUT_S)
    subscriptions = connections.subscriber.list_subscriptions(
        request={"project": project, "page_size": _PAGE}, timeout=_TIMEOUT_S
    )
    return Directory(
        tuple(sorted(topics, key=lambda topic: topic.name)),
        tuple(sorted(subscriptions, key=lambda subscription: subscription.name)),
    )


def find_topic(connections: Connections, name: str) -> Any:
    """Return the topic of that name, or full path.

    Raises:
        NotKnown: there is none; names the near ones.
    """
    path = name if name.startswith("projects/") else topic_path(connections.profile.project, name)
    with _near_names(connections, "topic", path):
        return connections.topics.get_topic(topic=path, timeout=_TIMEOUT_S)


def find_subscription(connections: Connections, name: str) -> Any:
    """Return the subscription of that name, or full path.

    Raises:
        NotKnown: there is none; names the near ones.
    """
    path = name if name.startswith("projects/") else subscription_path(connections.profile.project, name)
    with _near_names(connections, "subscription", path):
        return connections.subscriber.get_subscription(subscription=path, timeout=_TIMEOUT_S)


def short(path: str) -> str:
    """Return the id of a resource's path."""
    return path.rpartition("/")[2]


def matches(pattern: str, path: str) -> bool:
    """Tell whether a resource's id is meant by a person's pattern: with wildcards as in a shell, or a part of it."""
    name = short(path)
    return fnmatchcase(name, pattern) if any(mark in pattern for mark in _WILDCARDS) else pattern in name


def near(name: str, names: Iterable[str]) -> list[str]:
    """Return the names that somebody may have meant."""
    known = list(names)
    close = difflib.get_close_matches(name, known, _NEAR, _NEAR_ENOUGH)
    parts = [other for other in known if name in other or other in name] if name else []
    return list(dict.fromkeys([*close, *parts]))[:_NEAR]


@contextmanager
def _near_names(connections: Connections, kind: str, path: str) -> Iterator[None]:
    """Say what there is where something is looked for that is not there, or cannot be."""
    try:
        yield
    except (google_errors.NotFound, google_errors.InvalidArgument) as fault:
        raise _unknown(connections, kind, path) from fault


def _unknown(connections: Connections, kind: str, path: str) -> NotKnown:
    found = directory(connections)
    name = path.split("/", 3)[-1]
    topics, subscriptions = [short(t.name) for t in found.topics], [short(s.name) for s in found.subscriptions]
    project = path.split("/")[1] if path.startswith("projects/") else connections.profile.project
    message = f"project {project} has no {kind} {name!r}"
    of_kind = topics if kind == "topic" else subscriptions
    if kind == "topic" and name in subscriptions:
        (of,) = (short(s.topic) for s in found.subscriptions if short(s.name) == name)
        return NotKnown(message, f"{name} is a subscription, of topic {of}")
    if kind == "subscription" and name in topics:
        own = [short(s.name) for s in found.subscriptions if short(s.topic) == name]
        return NotKnown(message, f"{name} is a topic; its subscriptions are {', '.join(own[:_NEAR]) or 'none'}")
    if close := near(name, of_kind):
        return NotKnown(message, f"did you mean {' or '.join(close)}? `baton pubsub ls` shows all")
    if not of_kind:
        return NotKnown(f"{message}, and no {kind} at all", "`baton setup` creates those of the pipeline")
    return NotKnown(message, f"`baton pubsub ls` shows all {len(of_kind)}")
