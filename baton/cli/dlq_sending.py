"""The long part of `baton dlq redrive`: many letters, with a bar where there is a terminal, and the sum at the end."""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.progress import Progress

from baton.cli.common import answers, print_json, remarks
from baton.cli.dlq_views import checkup_json
from baton.render import one_line, plain

if TYPE_CHECKING:
    from rich.console import Console

    from baton.dlq.desk import DeadLetters
    from baton.dlq.redriving import Redriven

_SHOWN = 20  # what is not sent is told letter by letter up to here, and counted beyond


def send_all(letters: "DeadLetters", keys: Sequence[str], as_json: bool, **wish: Any) -> bool:
    """Send letters back and tell what became of each; return whether all are on their way."""
    from baton.dlq.redriving import Sent

    done: list[Redriven] = []
    console = remarks()
    sending = letters.redrive_all(keys, **wish)
    try:
        # Where there is no terminal, a bar would be an empty line.
        with (
            closing(sending),
            Progress(console=console, transient=True, disable=not _has_bar(console, keys)) as progress,
        ):
            bar = progress.add_task("redriving", total=len(keys))
            for result in sending:
                done.append(result)
                progress.advance(bar)
    finally:
        # Also after Ctrl-C, or where the cloud stopped answering: what was sent until then is on its way.
        if as_json:
            print_json([{**asdict(result), "sent": result.sent.value} for result in done])
        else:
            _tell(done, bool(wish.get("anyway")))
    return all(result.sent in (Sent.REDRIVEN, Sent.ALREADY) for result in done)


def check_all(letters: "DeadLetters", keys: Sequence[str], topic: str, as_json: bool) -> bool:
    """Say what the workers would say to letters; return whether they would refuse none."""
    found = []
    for key in keys:
        letter = letters.get(key)
        found.append((letter, letters.check(letter, topic=topic)))
    if as_json:
        print_json([{"key": letter.key, "checkup": checkup_json(checkup)} for letter, checkup in found])
    else:
        console = answers()
        for letter, checkup in found:
            console.print(
                f"{plain(letter.key)}  {checkup.verdict.value}: {plain(one_line(checkup.reason))}", soft_wrap=True
            )
    return not any(checkup.is_refused for _, checkup in found)


def _has_bar(console: "Console", keys: Sequence[str]) -> bool:
    return console.is_terminal and len(keys) > 1


def _tell(done: "Sequence[Redriven]", is_anyway: bool) -> None:
    from baton.dlq.redriving import Sent

    console = answers()
    sent = [result for result in done if result.sent is Sent.REDRIVEN]
    others = [result for result in done if result.sent is not Sent.REDRIVEN]
    for result in sent[:_SHOWN]:
        reason = f": {plain(one_line(result.reason))}" if result.reason else ""
        style = "green" if result.is_effective else "yellow"
        console.print(f"{plain(result.key)}  [{style}]redriven[/] to {plain(result.topic)}{reason}", soft_wrap=True)
    if len(sent) > _SHOWN:
        console.print(f"[green]redriven[/] {len(sent) - _SHOWN:,} more")
    for result in others[:_SHOWN]:
        reason = plain(one_line(result.reason))
        console.print(f"{plain(result.key)}  [yellow]{result.sent.value}[/]: {reason}", soft_wrap=True)
    if len(done) > 1:
        counted = Counter(result.sent.value for result in done)
        remarks().print(", ".join(f"{count:,} {word}" for word, count in counted.most_common()))
    if any(result.sent is Sent.REFUSED for result in others):
        remarks().print("mend them with `baton dlq edit KEY`" + ("" if is_anyway else ", or send them with --anyway"))
