"""`baton pubsub`: look into topics and subscriptions, and drop what waits."""

import select
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from baton.cli.common import answers, examples, json_option, print_json, remarks
from baton.errors import EXIT_FAILED, Refused
from baton.render import plain

if TYPE_CHECKING:
    from baton.connections import Connections
    from baton.pubsub.inspection import SubscriptionCounts

_NEEDED = ("PUBSUB_EMULATOR_HOST",)  # whatever else is down, this can be looked into
COUNTS_SHAPE = (
    "backlog_messages, backlog_is_exact, outstanding_messages, oldest_unacked_age_s, readers, delivered_messages, "
    "acked_messages, nacked_messages, expired_messages, dead_lettered_messages"
)
MESSAGE_SHAPE = (
    "one {message_id, publish_time, title, run_id, attributes, ordering_key, data, data_base64, size_bytes, is_cut, event: "
    "{id, type, run_id, source, time, parent_run, body}, fault, is_leased, failed_deliveries} a line"
)
_raw_option = click.option(
    "--raw",
    "is_raw",
    is_flag=True,
    help="Print the data alone, byte for byte into a pipe or a file, one message a line.",
)


def connect() -> "Connections":
    """Return the connections to the Pub/Sub that is set; it answers."""
    from baton.connections import Connections
    from baton.profile import load_profile

    profile = load_profile()
    profile.require_answers(wanted=_NEEDED)
    return Connections(profile)


@click.group(
    epilog=examples(
        "baton pubsub ls",
        "baton pubsub peek train-worker",
        "baton pubsub tail data-ready",
        "baton pubsub purge audit-data-ready",
    )
)
def pubsub() -> None:
    """Look into topics and subscriptions: what waits, what is published; and drop what waits.

    A name is the short one, or the full one (projects/P/topics/T) for another project.
    """


@pubsub.command(
    epilog=examples(
        "baton pubsub ls",
        "baton pubsub ls worker",
        "baton pubsub ls 'audit-*' --json",
        json_shape=f"{{project, has_counts, topics: [{{name, published_messages, published_bytes, subscriptions: [{{name, "
        f"topic, delivery: pull|push|bigquery|storage, traits, {COUNTS_SHAPE}}}]}}]}}; counts are null where nobody counts",
    )
)
@click.argument("pattern", required=False, default="", metavar="[PATTERN]")
@json_option
def ls(pattern: str, as_json: bool) -> None:
    """List topics and their subscriptions, with what waits there and what was delivered.

    PATTERN is a part of a name, or has wildcards as in a shell (* and ?). Deliveries and acks are counted from the broker's
    start.
    """
    from baton.cli.pubsub_views import no_counts_note, overview_table
    from baton.pubsub.directory import near
    from baton.pubsub.overview import overview

    connections = connect()
    project = connections.profile.project
    found = overview(connections, pattern)
    if as_json:
        topics = [topic.to_json() for topic in found.topics]
        print_json({"project": project, "has_counts": found.has_counts, "topics": topics})
        return
    if not found.topics:
        if not pattern:
            told = f"project {project} has no topics; `baton setup` creates those of the pipeline"
        else:
            close = near(pattern.strip("*?"), found.names)
            told = f"no topic or subscription of project {project} is called like {pattern!r}"
            told += f"; near it: {', '.join(close)}" if close else ""
        remarks().print(plain(told), soft_wrap=True)
        return
    console = answers()
    console.print(overview_table(found, project, console.width))
    if not found.has_counts:
        remarks().print(plain(no_counts_note(connections.profile)), soft_wrap=True)


@pubsub.command(
    epilog=examples(
        "baton pubsub peek train-worker",
        "baton pubsub peek dead-letter-inbox -n 0 --json | jq -r .fault",
        "baton pubsub peek train-worker -n 1 --raw | jq .",
        json_shape=MESSAGE_SHAPE,
    )
)
@click.argument("subscription", metavar="SUBSCRIPTION")
@click.option(
    "-n", "--count", "at_most", type=click.IntRange(0), default=10, show_default=True, help="How many; 0 = all."
)
@click.option("--borrow", is_flag=True, help="Where the broker cannot show them: take them and give them back.")
@json_option
@_raw_option
def peek(subscription: str, at_most: int, borrow: bool, as_json: bool, is_raw: bool) -> None:
    """Show messages that wait in SUBSCRIPTION, and leave them there: no reader misses one, no delivery is counted."""
    from baton.cli.pubsub_messages import Printer
    from baton.connections import explaining
    from baton.pubsub.directory import find_subscription, short
    from baton.pubsub.peeking import Way, peeked
    from baton.pubsub.purging import waiting_in

    connections = connect()
    found = find_subscription(connections, subscription)
    printer = Printer(as_json, is_raw, has_date=True)
    with (
        explaining(f"subscription {short(found.name)}"),
        peeked(connections, found, at_most, borrow) as (way, messages),
    ):
        for message in messages:
            printer.show(message)
    if as_json or is_raw:
        return
    console = remarks()
    if not printer.shown:
        console.print(f"nothing waits in {plain(short(found.name))}")
    elif way is not Way.SHOWN:
        order = "in any order" if way is Way.SNAPSHOT else "borrowed, and given back: one failed delivery more for each"
        console.print(f"[dim]{printer.shown:,} shown, {order}[/]")
    elif counted := waiting_in(connections, found):
        waiting = max(counted.backlog_messages, printer.shown)
        hint = "; -n 0 shows all" if waiting > printer.shown else ""
        console.print(f"[dim]{printer.shown:,} of {waiting:,} waiting{hint}[/]")


@pubsub.command(
    epilog=examples(
        "baton pubsub tail data-ready",
        "baton pubsub tail stage-failed --json | jq -r '.event.body.reason'",
        "baton pubsub tail train-done --count 1",
        "baton pubsub tail data-ready --since 2h",
        json_shape=MESSAGE_SHAPE,
    )
)
@click.argument("topic", metavar="TOPIC")
@click.option(
    "--since", metavar="TIME", help="Begin with what was published then: 15m, 2h, 3d ago, or RFC 3339; as far as kept."
)
@click.option("-n", "--count", "at_most", type=click.IntRange(1), help="Stop after that many messages.")
@json_option
@_raw_option
def tail(topic: str, since: str | None, at_most: int | None, as_json: bool, is_raw: bool) -> None:
    """Show what is published to TOPIC as it comes, until Ctrl-C.

    It reads by a subscription of its own, which is deleted at the end and expires by itself if it cannot be: no reader
    misses anything.
    """
    from baton.cli.pubsub_messages import Printer
    from baton.connections import explaining
    from baton.house import interrupt_on_signals
    from baton.pubsub.directory import find_topic, short
    from baton.pubsub.tailing import own_subscription, published, since_of

    begin = since_of(since, datetime.now(UTC)) if since else None
    connections = connect()
    found = find_topic(connections, topic)
    name, console = short(found.name), remarks()
    printer = Printer(as_json, is_raw)

    def say(text: str) -> None:
        console.print(f"[yellow]{plain(text)}[/]", soft_wrap=True)

    interrupt_on_signals()
    with explaining(f"topic {name}"), own_subscription(connections, found, begin, say) as path:
        console.print(f"[dim]what is published to {plain(name)} from now on; Ctrl-C ends it[/]", soft_wrap=True)
        for message in published(connections, path, _has_reader_gone, say):
            printer.show(message)
            if printer.shown == at_most:
                break


@pubsub.command(
    epilog=examples(
        "baton pubsub purge audit-data-ready",
        "baton pubsub purge train-worker --yes",
        json_shape="{subscription, dropped_messages}; null where nobody counts",
    )
)
@click.argument("subscription", metavar="SUBSCRIPTION")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_context
def purge(context: click.Context, subscription: str, yes: bool, as_json: bool) -> None:
    """Drop everything that waits in SUBSCRIPTION now: it counts as done, and nobody will ever see it there.

    Other subscriptions of the topic keep their messages. Exit 1 if you say no.
    """
    from baton.cli.pubsub_views import many
    from baton.connections import explaining
    from baton.pubsub import purging
    from baton.pubsub.directory import find_subscription, short

    connections = connect()
    found = find_subscription(connections, subscription)
    name = short(found.name)
    with explaining(f"subscription {name}"):
        counted = purging.waiting_in(connections, found)
    is_empty = counted is not None and not counted.backlog_messages
    if not is_empty and not yes and not _may_drop(name, counted):
        remarks().print("nothing dropped")
        context.exit(EXIT_FAILED)
    with explaining(f"subscription {name}"):
        dropped = 0 if is_empty else purging.purge(connections, found)
    if as_json:
        print_json({"subscription": found.name, "dropped_messages": dropped})
    elif is_empty:
        answers().print(f"nothing waits in {plain(name)}")
    else:
        told = (
            f": {many(dropped)} dropped"
            if dropped is not None
            else "; how many that dropped, this Pub/Sub does not tell"
        )
        answers().print(f"{plain(name)} purged{told}")


def _may_drop(name: str, counted: "SubscriptionCounts | None") -> bool:
    """Ask a person."""
    from baton.cli.pubsub_views import backlog_words, purge_warning

    if not sys.stdin.isatty():
        raise Refused(f"there is no terminal to ask in whether {name} may be emptied", "give --yes")
    if warning := purge_warning(name):
        remarks().print(f"[yellow]{plain(warning)}[/]")
    return click.confirm(f"drop {backlog_words(counted)} of {name}?", err=True)


def _has_reader_gone() -> bool:
    """Tell whether stdout is a pipe that nobody reads any more (`baton pubsub tail … | head`)."""
    watched = select.poll()
    watched.register(sys.stdout.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLNVAL) for _, event in watched.poll(0))
