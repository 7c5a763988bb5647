"""`baton audit`: is every event accounted for?"""

from typing import TYPE_CHECKING

import click
from rich.table import Table

from baton.cli.common import answers, examples, json_option, print_json, remarks
from baton.errors import EXIT_FAILED, EXIT_OK
from baton.render import one_line, plain

if TYPE_CHECKING:
    from baton.audit.fate import Accounted
    from baton.audit.report import Report

VERDICTS = ("consumed", "duplicate", "filtered", "dead-lettered", "outcome", "in flight", "lost")
_SHAPE = (
    "{balanced, settled, exact, since, published, rows: [{topic, queue, published, consumed, duplicate, filtered, "
    "dead_lettered, outcome, in_flight, lost}], lost: [MESSAGE], untold: [MESSAGE]}; with --list [MESSAGE, …], where "
    "MESSAGE is {topic, message_id, time, run_id, event_id, event_type, first_id, digest, letter, queue, verdict, note}"
)
_STYLES = {"lost": "bold red", "in flight": "yellow", "dead-lettered": "yellow"}
_SHOWN = 50
_WIDE = 120  # columns, from which on each fate has one of its own


@click.command(
    epilog=examples(
        "baton audit",
        "baton audit --wait 60",
        "baton audit --list duplicate",
        "baton audit --json | jq .lost",
        json_shape=_SHAPE,
    )
)
@click.option(
    "--wait", type=click.FloatRange(0), default=0.0, metavar="SECONDS", help="Wait until nothing is in flight."
)
@click.option("--list", "listed", type=click.Choice(VERDICTS), help="List the messages with this fate.")
@json_option
@click.pass_context
def audit(context: click.Context, wait: float, listed: str | None, as_json: bool) -> None:
    """Account for every event that was published since the set-up: each is exactly one of consumed, duplicate,
    filtered, dead-lettered, an outcome, or in flight. Exit 1 if one is missing.
    """
    from baton.audit.auditing import Audit
    from baton.audit.fate import Verdict
    from baton.client import Client

    with remarks().status("auditing …") as status:
        report = Audit(Client().connections, say=status.update).until_settled(wait)
    if listed:
        _show_list(report.of(Verdict(listed)), as_json)
    elif as_json:
        print_json(report.to_json())
    else:
        _show(report)
    context.exit(EXIT_OK if report.is_balanced else EXIT_FAILED)


def _show(report: "Report") -> None:
    console = answers()
    is_wide = console.width >= _WIDE or not console.is_terminal
    console.print(_table(report) if is_wide else _short_table(report))
    for title, wrong in (("lost", report.lost), ("ended, but its own event was never seen", report.untold)):
        for one in wrong[:_SHOWN]:
            console.print(f"[bold red]{title}[/]: {_line(one)}", soft_wrap=True)
        if len(wrong) > _SHOWN:
            console.print(f"[bold red]{title}[/]: and {len(wrong) - _SHOWN:,} more; --json lists all")
    since = f" since {plain(report.since[:19])}Z" if report.since else ""
    if report.is_balanced:
        console.print(f"[green]the sum is right[/]: {report.published:,} events{since}, every one accounted for")
    else:
        missing = len(report.lost) + len(report.untold)
        console.print(f"[bold red]the sum is wrong[/]: {missing:,} of {report.published:,} events{since}")
        mend = "send such an event again with `baton publish`, or the run's stage with `baton retry RUN`"
        console.print(f"[bold]mend:[/] {mend}; docs/audit.md says what each case means", soft_wrap=True)
    if not report.is_exact:
        remarks().print("this Pub/Sub emulator can't show what waits in a queue: what is missing may be there")


def _show_list(found: "list[Accounted]", as_json: bool) -> None:
    if as_json:
        print_json([one.described() for one in found])
        return
    console = answers()
    for one in found:
        console.print(_line(one), soft_wrap=True)
    if not found:
        remarks().print("none")


def _line(one: "Accounted") -> str:
    words = [one.message.time[:23], one.message.topic, f"message {one.message.message_id}"]
    words += [f"run {one.run_id or one.message.run_id}"] if one.run_id or one.message.run_id else []
    words += [one.message.event_id] if one.message.event_id else []
    words += [f"({one.missing or one.note})"] if one.missing or one.note else []
    return plain(one_line("  ".join(words)))


def _table(report: "Report") -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("topic", no_wrap=True)
    table.add_column("stage's queue", no_wrap=True)
    table.add_column("published", justify="right", style="bold")
    for verdict in VERDICTS:
        table.add_column(verdict, justify="right")
    for row in report.rows:
        counts = {verdict.value: count for verdict, count in row.counts.items()}
        cells = [_count(counts.get(verdict, 0), _STYLES.get(verdict, "")) for verdict in VERDICTS]
        table.add_row(row.topic, row.queue or "[dim]none: outcomes[/]", f"{row.published:,}", *cells)
    return table


def _short_table(report: "Report") -> Table:
    """Return the sums where there is no room for a column a fate: only those that are not 0, in words."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("topic", no_wrap=True)
    table.add_column("stage's queue", no_wrap=True)
    table.add_column("published", justify="right", style="bold", no_wrap=True)
    table.add_column("of these", overflow="fold")
    for row in report.rows:
        counts = {verdict.value: count for verdict, count in row.counts.items() if count}
        fates = [f"{_count(counts[name], _STYLES.get(name, ''))} {name}" for name in VERDICTS if name in counts]
        table.add_row(row.topic, row.queue or "[dim]none: outcomes[/]", f"{row.published:,}", ", ".join(fates))
    return table


def _count(count: int, style: str) -> str:
    if not count:
        return "[dim]0[/]"
    return f"[{style}]{count:,}[/]" if style else f"{count:,}"
