"""Dead letters on a terminal: whatever a hostile message holds, it can't steer it, flood it or fake a line."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from baton.render import clean, one_line, plain

if TYPE_CHECKING:
    from rich.console import Console

    from baton.dlq.archive import Summary
    from baton.dlq.checkup import Checkup
    from baton.dlq.letter import DeadLetter

_STYLES = {"open": "bold red", "redriving": "yellow", "redriven": "green", "dropped": "dim"}
_VERDICTS = {"accepted": "green", "duplicate": "yellow", "filtered": "yellow", "refused": "bold red"}
_COLUMNS = ("key", "state", "topic", "run", "put aside")
_GAP = 2
_MOST_PADDED = 30  # columns; one long value does not push the others out of the line
_LEAST_REASON = 40  # columns, below which a reason says nothing
_REASON_WIDTH = 100
_MOST_LINES = 200
_MOST_WIDTH = 2000  # characters of one line


def summary_json(letter: "Summary") -> dict[str, Any]:
    """Return a letter as `dlq ls --json` prints it."""
    shown = {name: value for name, value in asdict(letter).items() if name != "forwarded"}
    return {**shown, "state": letter.state.value, "time": letter.time.isoformat()}


def letter_json(letter: "DeadLetter", checkup: "Checkup") -> dict[str, Any]:
    """Return a letter as `dlq show --json` prints it."""
    return {**letter.model_dump(mode="json", exclude_none=True), "checkup": checkup_json(checkup)}


def checkup_json(checkup: "Checkup") -> dict[str, Any]:
    return {**asdict(checkup), "verdict": checkup.verdict.value}


def letter_list(letters: "Sequence[Summary]", console: "Console") -> "Iterator[Table | Text]":
    """Yield letters as a table; where a terminal is too narrow for it, each as two lines, since a cut key is of no use."""
    widths = [max(len(letter_cells[n]) for letter_cells in map(_cells, letters)) for n in range(len(_COLUMNS))]
    needed = sum(widths) + len(widths) * _GAP + _LEAST_REASON
    if needed <= console.width or not console.is_terminal:  # a pipe has one letter a line, at any width
        yield letter_table(letters)
        return
    for letter in letters:
        cells = _cells(letter)
        for cell, width in zip(cells, widths, strict=True):
            cell.pad_right(max(0, min(width, _MOST_PADDED) - len(cell)))
        *first, run, time = cells
        head = Text(" " * _GAP).join([*first, time, run])  # a run's id may be the longest: it is what is cut
        for line in (head, Text(" " * _GAP + one_line(letter.reason), "dim")):
            line.rstrip()
            line.truncate(console.width, overflow="ellipsis")
            yield line


def letter_table(letters: "Sequence[Summary]") -> Table:
    """Return letters as rows."""
    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    for name in _COLUMNS:
        table.add_column(name, no_wrap=True)
    table.add_column("reason", overflow="ellipsis", no_wrap=True, ratio=1)
    for letter in letters:
        table.add_row(*_cells(letter), Text(_cut(one_line(letter.reason), _REASON_WIDTH)))
    return table


def _cells(letter: "Summary") -> list[Text]:
    state = letter.state.value + (", edited" if letter.is_edited else "")
    times = f" ({letter.arrivals} times)" if letter.arrivals > 1 else ""
    return [
        Text(one_line(letter.key)),
        Text(state, _STYLES[letter.state.value]),
        Text(one_line(letter.topic) or "?"),
        Text(one_line(letter.run_id)),
        Text(f"{letter.time.astimezone():%m-%d %H:%M:%S}{times}"),
    ]


def cause_table(causes: Sequence[tuple[int, str, str]]) -> Table:
    """Return causes as rows, the most frequent first."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("letters", justify="right", no_wrap=True)
    table.add_column("topic", no_wrap=True)
    table.add_column("cause", overflow="fold")
    for count, topic, cause in causes:
        table.add_row(f"{count:,}", plain(topic or "?"), plain(_cut(one_line(cause), 4 * _REASON_WIDTH)))
    return table


def letter_details(letter: "DeadLetter", checkup: "Checkup") -> list[str]:
    """Return everything about a letter."""
    style = _STYLES[letter.state.value]
    lines = [f"[underline]{plain(letter.key)}[/]  [{style}]{letter.state.value}[/]"]
    lines.append(f"topic    {plain(letter.topic or 'unknown')}")
    if letter.run_id:
        lines.append(f"run      {plain(one_line(letter.run_id))}")
    lines += ["", "[dim]put aside[/]"]
    for arrival in letter.arrivals:
        by = {"worker": "by the worker", "pubsub": "by Pub/Sub"}.get(arrival.by, "by hand")
        times = f", delivered {arrival.attempts} times" if arrival.attempts > 1 else ""
        lines.append(f"  {arrival.time.astimezone():%Y-%m-%d %H:%M:%S}  {by}{times}: {plain(one_line(arrival.reason))}")
    lines += ["", *content_lines(letter), "", *checkup_lines(checkup), "", "[dim]history[/]"]
    for change in letter.history:
        message = f"  message {plain(change.message_id)}" if change.message_id else ""
        note = plain(one_line(change.note))
        lines.append(
            f"  {change.time.astimezone():%Y-%m-%d %H:%M:%S}  {change.state.value:<9} {note}{message}  "
            f"[dim]{plain(one_line(change.by))}[/]"
        )
    return lines


def content_lines(letter: "DeadLetter") -> list[str]:
    """Return the message as it would be sent, and how it was edited."""
    from baton.dlq.editing import difference, document

    title = f"message, {len(letter.current.data):,} bytes" + (", edited" if letter.edited else "")
    lines = [f"[dim]{title}[/]", *(plain(line) for line in _shortened(document(letter.current)))]
    if letter.edited:
        lines += ["", "[dim]edited[/]", *diff_lines(difference(letter.content, letter.edited))]
    return lines


def checkup_lines(checkup: "Checkup") -> list[str]:
    """Return what the worker would say."""
    verdict = checkup.verdict.value
    reason = f": {plain(one_line(checkup.reason))}" if checkup.reason else ""
    lines = [f"[dim]the worker would say[/]  [{_VERDICTS[verdict]}]{verdict}[/]{reason}"]
    for fault in checkup.faults:
        field, value = plain(one_line(fault.field)), plain(one_line(fault.value))
        lines.append(f"  {field} = {value}  [bold]mend:[/] {plain(one_line(fault.mend))}")
    return lines + ([f"  [dim]{plain(one_line(checkup.note))}[/]"] if checkup.note else [])


def diff_lines(lines: Sequence[str]) -> list[str]:
    """Return a unified diff with its colours."""
    styles = {"+": "green", "-": "red", "@": "cyan"}
    shown = []
    for line in lines:
        style = styles.get(line[:1])
        text = plain(_cut(one_line_kept(line), _MOST_WIDTH))
        shown.append(f"[{style}]{text}[/]" if style else text)
    return shown


def one_line_kept(line: str) -> str:
    """Return a line with its indent, without what could steer the terminal."""
    return clean(line).replace("\n", "�")


def _shortened(text: str) -> list[str]:
    lines = [_cut(one_line_kept(line), _MOST_WIDTH) for line in text.splitlines()]
    if len(lines) <= _MOST_LINES:
        return lines
    return [*lines[:_MOST_LINES], f"… {len(lines) - _MOST_LINES} lines more; --json shows all"]


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
