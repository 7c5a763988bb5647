"""Topics and subscriptions on a terminal, with their counts, and what a purge would drop."""

from typing import TYPE_CHECKING

from rich.table import Table

from baton.lookalike import DELETED_TOPIC
from baton.render import plain
from messages.topics import AUDIT_SUBSCRIPTIONS, DEAD_LETTER_SUBSCRIPTION, SUBSCRIPTIONS, stage_of

if TYPE_CHECKING:
    from baton.profile import Profile
    from baton.pubsub.inspection import SubscriptionCounts
    from baton.pubsub.overview import Overview, SubscriptionRow, TopicRow

_WIDE = 110  # columns, from which on the rarer counts have room


def overview_table(found: "Overview", project: str, width: int) -> Table:
    """Return topics, and below each its subscriptions with their counts."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("topic, subscription", overflow="fold")
    names = [name for name, is_rare in _COLUMNS if found.has_counts and (width >= _WIDE or not is_rare)]
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for topic in found.topics:
        published = f"{topic.counts.published_messages:,}" if topic.counts is not None else ""
        cells = {"published": f"[dim]{published}[/]"}
        table.add_row(_topic_name(topic, project), *(cells.get(name, "") for name in names))
        for row in topic.subscriptions:
            cells = _cells(row.counts) if row.counts is not None else {}
            table.add_row(_subscription_name(row, project), *(cells.get(name, "") for name in names))
    return table


def no_counts_note(profile: "Profile") -> str:
    """Say why there are no counts, and where there are some."""
    if profile.is_emulated:
        return (
            "this Pub/Sub emulator tells no counts (what waits, how long, deliveries); the broker of `baton up` does, "
            "and `baton pubsub peek` shows messages"
        )
    return (
        "counts are in Cloud Monitoring: subscription/num_undelivered_messages and oldest_unacked_message_age of "
        f"pubsub.googleapis.com, drawn at https://console.cloud.google.com/cloudpubsub/subscription/list?project={profile.project}"
    )


def backlog_words(counted: "SubscriptionCounts | None") -> str:
    """Return what a purge would drop."""
    if counted is None:
        return "everything that waits (how much, this Pub/Sub does not tell)"
    at_most = "" if counted.backlog_is_exact else "at most "
    age = f", the oldest {_age(counted.oldest_unacked_age_s)} old," if counted.backlog_messages else ""
    return f"{at_most}{many(counted.backlog_messages)}{age}"


def many(messages: int) -> str:
    """Return `1 message`, `2 messages`."""
    return f"{messages:,} message{'' if messages == 1 else 's'}"


def purge_warning(subscription: str) -> str:
    """Return what the pipeline loses by it; "" where the subscription is none of the pipeline's."""
    if subscription in AUDIT_SUBSCRIPTIONS:
        return f"{subscription} is how `baton audit` learns what was published: it will know nothing of these events"
    if subscription == DEAD_LETTER_SUBSCRIPTION:
        return f"{subscription} holds dead letters that nobody has looked at; `baton dlq ls` would keep them"
    if subscription in SUBSCRIPTIONS:
        stage = stage_of(subscription)
        return f"{subscription} is the queue of stage {stage}: the runs that wait in it will not go on, and the audit tells"
    return ""


_COLUMNS = (
    ("published", True),
    ("backlog", False),
    ("leased", False),
    ("oldest", False),
    ("delivered", False),
    ("acked", False),
    ("nacked", True),
    ("expired", True),
    ("dead", False),
    ("readers", True),
)
"""Name, and whether it is shown on wide terminals only."""


def _cells(counted: "SubscriptionCounts") -> dict[str, str]:
    backlog = f"{'' if counted.backlog_is_exact else '≤'}{counted.backlog_messages:,}"
    cells = {
        "backlog": f"[bold]{backlog}[/]" if counted.backlog_messages else "[dim]0[/]",
        "oldest": _age(counted.oldest_unacked_age_s) if counted.backlog_messages else "",
    }
    numbers = {
        "leased": counted.outstanding_messages,
        "delivered": counted.delivered_messages,
        "acked": counted.acked_messages,
        "nacked": counted.nacked_messages,
        "expired": counted.expired_messages,
        "dead": counted.dead_lettered_messages,
        "readers": counted.readers,
    }
    styles = {"dead": "yellow", "expired": "yellow"}
    for name, number in numbers.items():
        style = "dim" if not number else styles.get(name, "")
        cells[name] = f"[{style}]{number:,}[/]" if style else f"{number:,}"
    return cells


def _topic_name(topic: "TopicRow", project: str) -> str:
    if topic.name == DELETED_TOPIC:
        return "[dim](deleted topic)[/]"
    note = "" if topic.subscriptions else " [dim](no subscription)[/]"
    return f"[bold]{plain(_local(topic.name, project))}[/]{note}"


def _subscription_name(row: "SubscriptionRow", project: str) -> str:
    traits = [*([row.delivery] if row.delivery != "pull" else []), *row.traits]
    return f"  {plain(_local(row.name, project))}" + (f" [dim]{', '.join(traits)}[/]" if traits else "")


def _local(path: str, project: str) -> str:
    return path.rpartition("/")[2] if path.startswith(f"projects/{project}/") else path


def _age(age_s: float) -> str:
    for unit, size_s in (("d", 86_400), ("h", 3600), ("min", 60)):
        if age_s >= 2 * size_s or (age_s >= size_s and unit != "d"):
            return f"{int(age_s // size_s)} {unit}"
    return f"{int(age_s)} s"
