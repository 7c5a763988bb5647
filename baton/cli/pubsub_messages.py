"""Messages on a terminal: whatever a hostile one holds, it can't steer it, flood it or fake a line."""

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.text import Text

from baton.cli.common import answers, print_json_line
from baton.errors import EXIT_FAILED
from baton.pubsub.message import parsed, read, text_of, to_json
from baton.render import clean, json_text, one_line

if TYPE_CHECKING:
    from rich.console import Console

    from baton.pubsub.message import Reading, SeenMessage

_MOST_DATA = 600  # characters of one message's data
_MOST_LINES = 20
_MOST_VALUE = 300  # characters of one attribute
_HEX_BYTES = 32
_INDENT = 2
_IN_THE_HEAD = {"ce-type", "ce-subject", "ce-specversion", "content-type"}


class Printer:
    """Shows messages on stdout.

    Args:
        as_json: one JSON object a line.
        is_raw: the data alone.
        has_date: with the day of their publishing, not only the time.
    """

    def __init__(self, as_json: bool, is_raw: bool, has_date: bool = False) -> None:
        self._as_json = as_json
        self._is_raw = is_raw
        self._has_date = has_date
        self._console = answers()
        self.shown = 0

    def show(self, message: "SeenMessage") -> None:
        """Show one.

        Raises:
            SystemExit: nobody reads on (`… | head`), which is no fault of the Pub/Sub's.
        """
        try:
            self._print(message)
        except BrokenPipeError:
            # What is still buffered must not fail a second time when the interpreter ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(EXIT_FAILED) from None

    def _print(self, message: "SeenMessage") -> None:
        self.shown += 1
        if self._is_raw:
            _write_raw(message.data)
        elif self._as_json:
            print_json_line(to_json(message))
        else:
            head, details = message_lines(message, self._has_date)
            self._console.print(_laid_out(self._console, head, details), soft_wrap=True)
        sys.stdout.flush()


def message_lines(message: "SeenMessage", has_date: bool = False) -> tuple[Text, list[Text]]:
    """Return a message as a person reads it: its head, and below it its attributes and its data."""
    reading = read(message)
    local = message.publish_time.astimezone()
    head = Text()
    head.append(f"{local:%Y-%m-%d %H:%M:%S}  " if has_date else f"{local:%H:%M:%S.%f}"[:-3] + "  ", "dim")
    head.append(_cut(one_line(reading.title), _MOST_VALUE), "bold")
    if reading.run_id:
        head.append("  run ", "dim").append(reading.run_id, "underline")
    for mark in _marks(message):
        head.append(f"  {mark}", "yellow")
    details = [Text(f"message {one_line(message.message_id)}  {_attributes(message, reading)}".rstrip(), "dim")]
    if reading.fault:
        details.append(Text(f"no worker can read it: {_cut(one_line(reading.fault), _MOST_DATA)}", "red"))
    details += [Text(line) for line in _data_lines(message)]
    return head, details


def _laid_out(console: "Console", head: Text, details: list[Text]) -> Text:
    """Return the lines; on a terminal they are folded here, so that nothing a message says begins where a head would."""
    if not console.is_terminal:
        return Text("\n" + " " * _INDENT).join([head, *details])
    lines: list[Text] = []
    for line in (head, *details):
        for part in line.wrap(console, max(20, console.width - _INDENT), overflow="fold"):
            if lines:
                part.pad_left(_INDENT)
            lines.append(part)
    return Text("\n").join(lines)


def _marks(message: "SeenMessage") -> list[str]:
    marks = ["leased"] if message.is_leased else []
    if message.failed_deliveries:
        marks.append(f"failed {message.failed_deliveries} times" if message.failed_deliveries > 1 else "failed once")
    if message.ordering_key:
        marks.append(f"key {_cut(one_line(message.ordering_key), _MOST_VALUE)}")
    return marks


def _attributes(message: "SeenMessage", reading: "Reading") -> str:
    left_out = _IN_THE_HEAD if reading.event is not None else set()
    pairs = [(key, value) for key, value in sorted(message.attributes.items()) if key not in left_out]
    return "  ".join(f"{_cut(one_line(key), _MOST_VALUE)}={_cut(one_line(value), _MOST_VALUE)}" for key, value in pairs)


def _data_lines(message: "SeenMessage") -> Iterable[str]:
    if not message.data:
        return
    lines, left, shown = _lines_of(message), _MOST_DATA, 0
    for line in lines[:_MOST_LINES]:
        if left <= 0:
            break
        yield _cut(line, left)
        left, shown = left - len(line), shown + 1
    if shown < len(lines) or left < 0 or message.is_cut:
        whole = "the first 256 KiB" if message.is_cut else "all"
        yield f"… {message.size_bytes:,} bytes in all; --json shows {whole}"


def _lines_of(message: "SeenMessage") -> list[str]:
    text = text_of(message.data)
    body = None if message.is_cut else parsed(message.data)
    if body is not None:
        return [json_text(body)]
    if text is None and not message.is_cut:
        return [f"{message.data[:_HEX_BYTES].hex(' ')}{' …' if len(message.data) > _HEX_BYTES else ''}"]
    return [clean(line) for line in message.data[: 8 * _MOST_DATA].decode(errors="replace").splitlines()]


def _write_raw(data: bytes) -> None:
    """Write data as it is, but for what could steer a terminal."""
    if sys.stdout.isatty():
        sys.stdout.write(clean(data.decode(errors="replace")) + "\n")
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(data + b"\n")
        sys.stdout.buffer.flush()


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
