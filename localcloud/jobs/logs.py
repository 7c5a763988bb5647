"""Log files of jobs and servers: when each line was written, and reading them in pages however large they are.

Processes write to their files directly, so nobody is there to stamp a line. Instead the service notes now and then how
long each file is (`<log>.marks`: one "microseconds size" a line, append-only): a line is as old as the first mark past it.
A line that is JSON and carries its own time keeps it, within the marks around it; so time never runs backwards in a file.
Marks are at most 1 MiB apart, which is what makes a page from the middle of a large file cheap.
"""

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localcloud.jobs.names import parse_timestamp

_SEGMENT_BYTES = 1 << 20
_MARK_TAIL_BYTES = 128  # holds the last mark whole
_MARK = re.compile(r"(\d+) (\d+)")
_marking = threading.Lock()
MAX_ENTRY_BYTES = 256 * 1024  # Cloud Logging's limit; a longer line is cut
SEVERITIES = ("DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY")
_SEVERITY_OF_WORD = {
    **{name: name for name in SEVERITIES},
    "WARN": "WARNING",
    "FATAL": "CRITICAL",
    "TRACE": "DEBUG",
}
# "WARNING:module:text" of Python's logging, "ERROR text", "[INFO] text"
_PLAIN_LEVEL = re.compile(r"\[?(DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|CRITICAL|FATAL)\]?[ :]")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log: where it begins, when it was written, and what it says."""

    offset: int
    us: int
    severity: str
    text: str
    fields: dict[str, Any] | None


class LogFile:
    """One log and its marks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._marks_path = path.with_name(path.name + ".marks")

    def mark(self, now_us: int) -> None:
        """Note how long the file is now, if it has grown."""
        with _marking:  # the service looks now and then, and a reader once more before it reads
            try:
                size = self._path.stat().st_size
            except FileNotFoundError:
                return
            last_us, last = self._last_mark()
            if size > last:
                ends = [*range(last + _SEGMENT_BYTES, size, _SEGMENT_BYTES), size]
                with self._marks_path.open("a", encoding="ascii") as file:
                    file.writelines(f"{max(now_us, last_us)} {end}\n" for end in ends)

    def lines(
        self, *, from_us: int = 0, to_us: int = 1 << 62, newest_first: bool = False, is_complete: bool = False
    ) -> Iterator[Line]:
        """The lines written from `from_us` to `to_us`, both included, in order of time.

        Args:
            is_complete: the writer has ended, so a last line without its newline is one too.
        """
        segments = list(self._segments())
        for number, (begin, end, low_us, high_us) in sorted(enumerate(segments), reverse=newest_first):
            if high_us < from_us or low_us > to_us:
                continue
            is_last = number == len(segments) - 1
            found = self._read(begin, end, low_us, high_us, keeps_partial=is_complete and is_last)
            for line in reversed(found) if newest_first else found:
                if from_us <= line.us <= to_us:
                    yield line

    def delete(self) -> None:
        """Remove the file and its marks."""
        self._path.unlink(missing_ok=True)
        self._marks_path.unlink(missing_ok=True)

    def _segments(self) -> Iterator[tuple[int, int, int, int]]:
        begin, low_us = 0, 0
        for us, end in self._marks():
            yield begin, end, low_us, us
            begin, low_us = end, us

    def _last_mark(self) -> tuple[int, int]:
        try:
            with self._marks_path.open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - _MARK_TAIL_BYTES))
                *lines, rest = file.read().decode("ascii").split("\n")
        except FileNotFoundError:
            return 0, 0
        if rest:  # cut off by a crash: end it, so that the next mark stands alone
            with self._marks_path.open("a", encoding="ascii") as end:
                end.write(" cut\n")
        for line in reversed(lines):
            if mark := _MARK.fullmatch(line):
                return int(mark[1]), int(mark[2])
        return 0, 0

    def _marks(self) -> list[tuple[int, int]]:
        try:
            text = self._marks_path.read_text(encoding="ascii")
        except FileNotFoundError:
            return []
        # A mark cut off by a crash does not count.
        marks = (_MARK.fullmatch(line) for line in text[: text.rfind("\n") + 1].splitlines())
        return [(int(mark[1]), int(mark[2])) for mark in marks if mark]

    def _read(self, begin: int, end: int, low_us: int, high_us: int, *, keeps_partial: bool) -> list[Line]:
        """The lines that begin in [begin, end)."""
        with self._path.open("rb") as file:
            file.seek(max(0, begin - 1))
            raw = file.read(end - begin + MAX_ENTRY_BYTES + 1)
        at = 0
        if begin > 0:
            newline = raw.find(b"\n")  # what comes before belongs to a line of an earlier segment
            at = newline + 1 if newline >= 0 else len(raw)
        origin = max(0, begin - 1)
        lines: list[Line] = []
        us = low_us
        while at < len(raw) and origin + at < end:
            newline = raw.find(b"\n", at)
            if newline < 0 and not keeps_partial and len(raw) - at < MAX_ENTRY_BYTES:
                break
            stop = newline if newline >= 0 else len(raw)
            line = _line(raw[at : min(stop, at + MAX_ENTRY_BYTES)], origin + at, us, high_us)
            if line is not None:
                lines.append(line)
                us = line.us
            at = stop + 1
        return lines


def _line(raw: bytes, offset: int, low_us: int, high_us: int) -> Line | None:
    text = raw.decode("utf-8", "replace").rstrip("\r")
    if not text.strip():
        return None
    fields = _json_object(text)
    if fields is None:
        found = _PLAIN_LEVEL.match(text)
        return Line(offset, high_us, _SEVERITY_OF_WORD[found[1]] if found else "DEFAULT", text, None)
    own_us = _own_time(fields)
    us = high_us if own_us is None else min(max(own_us, low_us), high_us)
    return Line(offset, us, _own_severity(fields), text, fields)


def _json_object(text: str) -> dict[str, Any] | None:
    if not text.startswith("{"):
        return None
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def _own_time(fields: dict[str, Any]) -> int | None:
    for key in ("time", "timestamp"):
        value = fields.get(key)
        if isinstance(value, str) and _TIME.fullmatch(value):
            try:
                return parse_timestamp(value.replace(" ", "T"))
            except ValueError:
                return None
    return None


def _own_severity(fields: dict[str, Any]) -> str:
    for key in ("severity", "level", "levelname"):
        value = fields.get(key)
        if isinstance(value, str):
            return _SEVERITY_OF_WORD.get(value.upper(), "DEFAULT")
    return "DEFAULT"
