"""`baton dlq`: dead letters, to look at, to mend and to send back."""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from baton.cli.common import answers, examples, json_option, print_json, remarks
from baton.errors import EXIT_FAILED, EXIT_OK, NotKnown, Refused
from baton.render import plain

if TYPE_CHECKING:
    from baton.dlq.desk import DeadLetters

STATES = ("open", "redriving", "redriven", "dropped")
SUMMARY_SHAPE = "{key, state: open|redriving|redriven|dropped, topic, run_id, reason, time, arrivals, is_edited}"
_ALL = "all"


def desk(count: bool = True) -> "DeadLetters":
    """Return the dead letters of the cloud that is set, with those that wait in their subscription written down."""
    from baton.client import Client

    found = Client().dead_letter_desk
    console, taken = remarks(), 0
    with console.status("looking into the dead-letter inbox …") as status:
        try:
            taken = found.collect(lambda taken: status.update(f"{taken} dead letters written down …"))
        except NotKnown as fault:  # no inbox: the letters in the archive can be looked at and sent back all the same
            console.print(f"[yellow]{plain(fault.message)}[/]", soft_wrap=True)
            console.print(f"[bold]mend:[/]  {plain(fault.mend)}", soft_wrap=True)
    if taken and count:
        console.print(f"[dim]{taken} new[/]")
    return found


@click.group(
    epilog=examples(
        "baton dlq ls",
        "baton dlq ls --causes",
        "baton dlq show KEY",
        "baton dlq edit KEY --set source=gs://my-data/births.csv",
        "baton dlq redrive KEY",
        "baton dlq redrive --all --reason-contains 'cannot read gs://'",
    )
)
def dlq() -> None:
    """Look at the messages that no worker could use, mend them, and send them back.

    A letter is written down as an object in the pipeline bucket the first time that anybody looks, and stays there,
    whatever becomes of it.
    """


@dlq.command(
    epilog=examples(
        "baton dlq ls",
        "baton dlq ls --causes",
        "baton dlq ls --state all --topic data-ready --limit 0",
        json_shape=f"[{SUMMARY_SHAPE}, …]; with --causes [{{count, topic, cause}}, …]",
    )
)
@click.option(
    "--state",
    type=click.Choice([*STATES, _ALL]),
    default=None,
    help="Only these; by default those that wait: open and redriving.",
)
@click.option("--topic", default="", metavar="TOPIC", help="Only those of this topic.")
@click.option("--reason-contains", default="", metavar="TEXT", help="Only those whose reason contains this.")
@click.option("--limit", type=click.IntRange(0), default=50, show_default=True, help="How many; 0 = all of them.")
@click.option("--causes", is_flag=True, help="Count them by cause instead.")
@json_option
def ls(state: str | None, topic: str, reason_contains: str, limit: int, causes: bool, as_json: bool) -> None:
    """List the dead letters, the newest first."""
    from baton.cli.dlq_views import cause_table, letter_list, summary_json
    from baton.dlq.desk import OPEN_STATES, by_cause
    from baton.dlq.letter import LetterState

    states = OPEN_STATES if state is None else tuple(LetterState) if state == _ALL else (LetterState(state),)
    found = desk().find(states, reason_contains=reason_contains, topic=topic)
    shown = found[:limit] if limit else found
    if as_json and causes:
        print_json([{"count": count, "topic": of, "cause": cause} for count, of, cause in by_cause(found)])
    elif as_json:
        print_json([summary_json(letter) for letter in shown])
    elif not found:
        _say_none("" if state == _ALL else state or STATES[0], topic, reason_contains)
    elif causes:
        answers().print(cause_table(by_cause(found)))
    else:
        _print_letters(letter_list(shown, answers()), len(found) - len(shown))


def _print_letters(letters: Iterable[Any], left_out: int) -> None:
    console = answers()
    for part in letters:
        console.print(part)
    if left_out:
        remarks().print(f"[dim]and {left_out} more; --limit 0 shows all, --causes counts them[/]")


@dlq.command(
    epilog=examples(
        "baton dlq show KEY",
        "baton dlq show KEY --json | jq .checkup",
        json_shape="the letter as the archive keeps it, and {checkup: {verdict, run_id, reason, faults, note}}",
    )
)
@click.argument("key", metavar="KEY")
@json_option
def show(key: str, as_json: bool) -> None:
    """Show one letter: its causes, its content, what the schema and the worker would say to it now, its history."""
    from baton.cli.dlq_views import letter_details, letter_json

    letters = desk(count=False)
    letter = letters.get(key)
    checkup = letters.check(letter)
    if as_json:
        print_json(letter_json(letter, checkup))
        return
    console = answers()
    for line in letter_details(letter, checkup):
        console.print(line, soft_wrap=True)


@dlq.command(epilog=examples("baton dlq diff KEY", json_shape="{key, diff: [line, …]}"))
@click.argument("key", metavar="KEY")
@json_option
def diff(key: str, as_json: bool) -> None:
    """Show how an edited letter differs from the message that was put aside."""
    from baton.cli.dlq_views import diff_lines
    from baton.dlq.editing import difference

    letter = desk(count=False).get(key)
    lines = difference(letter.content, letter.current)
    if as_json:
        print_json({"key": key, "diff": lines})
        return
    if not lines:
        remarks().print(f"dead letter {plain(key)} was not edited")
    for line in diff_lines(lines):
        answers().print(line, soft_wrap=True)


@dlq.command(
    epilog=examples(
        "baton dlq edit KEY                                   # in $EDITOR",
        "baton dlq edit KEY --set source=gs://my-data/births.csv --unset params.limt",
        "baton dlq edit KEY --set-attribute ce-type=baton.data.ready.v1 --dry-run",
        "baton dlq edit KEY --data @mended.json",
        json_shape="{key, saved, diff: […], checkup: {verdict, run_id, reason, faults, note}}",
    )
)
@click.argument("key", metavar="KEY")
@click.option("--set", "fields", multiple=True, metavar="FIELD=VALUE", help="Set a field of the data; repeat.")
@click.option("--unset", "unset", multiple=True, metavar="FIELD", help="Take a field of the data away; repeat.")
@click.option("--set-attribute", "attributes", multiple=True, metavar="NAME=VALUE", help="Set an attribute; repeat.")
@click.option("--unset-attribute", "unset_attributes", multiple=True, metavar="NAME", help="Take one away; repeat.")
@click.option("--data", metavar="JSON|@FILE", help="Replace the data.")
@click.option("--reset", is_flag=True, help="Back to what was put aside.")
@click.option("--dry-run", is_flag=True, help="Show what would be changed and what the worker would say; save nothing.")
@click.option("--anyway", is_flag=True, help="Save it even if the worker would refuse it again.")
@json_option
@click.pass_context
def edit(context: click.Context, /, key: str, dry_run: bool, anyway: bool, as_json: bool, **given: Any) -> None:
    """Mend a letter; without options, in $VISUAL or $EDITOR. Exit 1 if the worker would still refuse it."""
    from baton.cli.dlq_changing import change_of
    from baton.cli.dlq_views import checkup_json, checkup_lines, diff_lines
    from baton.dlq.editing import difference
    from baton.dlq.letter import Content

    letters = desk(count=False)
    letter = letters.get_open(key)
    change = change_of(letter.content, **given)
    edited: Content = change(letter.current)
    checkup = letters.check(letter, edited)
    # What was put aside is refused, or it would not be here: taking an edit back needs no second word for that.
    is_saved = not dry_run and (anyway or not checkup.is_refused or edited == letter.content)
    if is_saved:
        letters.edit(key, lambda _: edited, before=letter.current)
    lines = difference(letter.content, edited)
    if as_json:
        print_json({"key": key, "saved": is_saved, "diff": lines, "checkup": checkup_json(checkup)})
    else:
        console = answers()
        for line in [*diff_lines(lines), *checkup_lines(checkup)]:
            console.print(line, soft_wrap=True)
        if is_saved and checkup.is_refused:
            remarks().print("saved" if lines else "it is as it was put aside")
        elif not is_saved:
            remarks().print("not saved" + ("" if dry_run else "; mend it further, or save it with --anyway"))
    context.exit(EXIT_FAILED if checkup.is_refused else EXIT_OK)


@dlq.command(
    epilog=examples(
        "baton dlq redrive KEY",
        "baton dlq redrive KEY KEY KEY --dry-run",
        "baton dlq redrive --all --reason-contains 'pipeline ' --topic data-ready",
        json_shape="[{key, sent, topic, run_id, reason, message_id, is_effective}, …]; with --dry-run [{key, checkup: "
        "{verdict, run_id, reason, faults, note}}, …]",
    )
)
@click.argument("keys", nargs=-1, metavar="[KEY]…")
@click.option("--all", "every", is_flag=True, help="All that are open, or those that the filters leave.")
@click.option("--reason-contains", default="", metavar="TEXT", help="With --all: whose reason contains this.")
@click.option("--topic", default="", metavar="TOPIC", help="With --all: those of this topic.")
@click.option("--to", "to_topic", default="", metavar="TOPIC", help="Send them there, not to where they came from.")
@click.option("--dry-run", is_flag=True, help="Only say what the workers would say.")
@click.option("--anyway", is_flag=True, help="Also what the worker would refuse again.")
@click.option(
    "--again", is_flag=True, help="Also what was redriven already; an event that counted has no effect twice."
)
@json_option
@click.pass_context
def redrive(
    context: click.Context,
    keys: tuple[str, ...],
    every: bool,
    reason_contains: str,
    topic: str,
    to_topic: str,
    dry_run: bool,
    anyway: bool,
    again: bool,
    as_json: bool,
) -> None:
    """Send letters back to the topic that they came from, with their old ids: redriving twice has one effect.

    A letter that the worker would refuse again is not sent. Exit 1 if one was not.
    """
    from baton.cli.dlq_sending import check_all, send_all

    if bool(keys) == every:
        raise Refused("which letters?", "name keys, or give --all (`baton dlq ls` shows them)")
    if (reason_contains or topic) and not every:
        raise Refused("--reason-contains and --topic choose among all letters", "give them with --all")
    letters = desk(count=False)
    if every:
        chosen = [found.key for found in letters.find(reason_contains=reason_contains, topic=topic)]
    else:
        chosen = _known(letters, keys)
    if dry_run:
        is_well = check_all(letters, chosen, to_topic, as_json)
    else:
        is_well = send_all(letters, chosen, as_json, topic=to_topic, anyway=anyway, again=again)
    if not chosen and not as_json:
        _say_none(STATES[0], topic, reason_contains)
    context.exit(EXIT_OK if is_well else EXIT_FAILED)


@dlq.command(
    epilog=examples(
        "baton dlq drop KEY --note 'a test of ours'",
        "baton dlq drop --all --reason-contains 'limt'",
        "baton dlq drop --undo KEY",
        json_shape="[{key, state}, …]",
    )
)
@click.argument("keys", nargs=-1, metavar="[KEY]…")
@click.option("--all", "every", is_flag=True, help="All that are open, or those that the filters leave.")
@click.option("--reason-contains", default="", metavar="TEXT", help="With --all: whose reason contains this.")
@click.option("--note", default="", metavar="TEXT", help="Why; kept with the letter.")
@click.option("--undo", is_flag=True, help="Bring dropped letters back.")
@click.option("--yes", is_flag=True, help="With --all: do not ask.")
@json_option
@click.pass_context
def drop(
    context: click.Context,
    keys: tuple[str, ...],
    every: bool,
    reason_contains: str,
    note: str,
    undo: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Give letters up: they stay in the archive, and are not shown and not sent any more. Exit 1 if you say no."""
    if bool(keys) == every or (undo and every):
        raise Refused("which letters?", "name keys, or give --all (not with --undo)")
    if reason_contains and not every:
        raise Refused("--reason-contains chooses among all letters", "give it with --all")
    letters = desk(count=False)
    if every:
        chosen = [found.key for found in letters.find(reason_contains=reason_contains)]
        if chosen and not yes and not _may_drop(len(chosen)):
            remarks().print("nothing dropped")
            context.exit(EXIT_FAILED)
    else:
        chosen = _known(letters, keys)
    done = []
    for key in chosen:
        letter = letters.undrop(key) if undo else letters.drop(key, note)
        done.append({"key": key, "state": letter.state.value})
        if not as_json:
            answers().print(f"{plain(key)}  {letter.state.value}")
    if as_json:
        print_json(done)
    elif not chosen:
        _say_none(STATES[0], "", reason_contains)


def _say_none(state: str, topic: str, reason_contains: str) -> None:
    told = "no dead letters" + (f" that are {state}" if state else "")
    told += f" of topic {topic}" if topic else ""
    told += f" whose reason contains {reason_contains!r}" if reason_contains else ""
    remarks().print(plain(told), soft_wrap=True)


def _may_drop(number: int) -> bool:
    """Ask a person."""
    letters = f"{number:,} dead letter{'' if number == 1 else 's'}"
    if not sys.stdin.isatty():
        raise Refused(f"there is no terminal to ask in whether {letters} may be dropped", "give --yes")
    return click.confirm(f"drop {letters}?", err=True)


def _known(letters: "DeadLetters", keys: Iterable[str]) -> list[str]:
    """Return the keys, each once.

    Raises:
        NotKnown: one is no letter's; nothing has been done to the others then.
    """
    different = list(dict.fromkeys(keys))
    for key in different:
        letters.get(key)
    return different
