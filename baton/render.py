"""Shows the processes' JSON log lines to people: time, process, level, action, run, and the rest."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rich.markup import escape
from rich.text import Text

COLOURS = {
    "baton": "bright_black",
    "cloud": "blue",
    "preprocess": "cyan",
    "train": "magenta",
    "deploy": "green",
}
_LEVEL_STYLES = {"DEBUG": "dim", "INFO": "", "WARNING": "yellow", "ERROR": "bold red", "CRITICAL": "bold red"}
_SHOWN_APART = ("time", "severity", "level", "action", "message", "run_id", "stage", "worker", "logger", "exception")
_NAME_WIDTH = 10
# What must not reach a terminal: controls that steer it, marks that turn text around, halves of characters.
_DANGEROUS = "\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_CONTROL = re.compile(f"[\x00-\x08\x0b-\x1f{_DANGEROUS}]")
_UNSAFE_IN_JSON = re.compile(f"[{_DANGEROUS}]")  # json.dumps escapes the others itself


def log_line(process: str, line: str) -> Text:
    """Return one line of a process as a person reads it; what is not JSON stands as it is."""
    fields = parse(line)
    text = Text(no_wrap=False)
    if fields is None:
        text.append(" " * 13)
        text.append(f"{process:<{_NAME_WIDTH}} ", COLOURS.get(process, ""))
        text.append(clean(line))
        return text
    level = str(fields.get("severity") or fields.get("level") or "").upper()
    text.append(f"{local_time(str(fields.get('time', '')))} ", "dim")
    text.append(f"{process:<{_NAME_WIDTH}} ", COLOURS.get(process, ""))
    text.append(f"{level:<7} ", _LEVEL_STYLES.get(level, ""))
    text.append(clean(str(fields.get("action") or fields.get("message") or "")), "bold" if level != "DEBUG" else "dim")
    if run_id := fields.get("run_id"):
        text.append(f" {clean(str(run_id))}", "underline")
    text.append(rest_of(fields), "dim" if level in ("DEBUG", "INFO") else "")
    if exception := fields.get("exception"):
        text.append("\n" + clean(str(exception)))
    return text


def parse(line: str) -> Mapping[str, Any] | None:
    """Return a log line's fields, or None where it is no JSON object."""
    if not line.startswith("{"):
        return None
    try:
        body = json.loads(line)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def rest_of(fields: Mapping[str, Any]) -> str:
    """Return what has no column of its own, as ` key=value` pairs; empty values are left out."""
    pairs = []
    if "action" in fields and fields.get("message") not in (None, fields["action"]):
        pairs.append(("message", fields["message"]))
    pairs += [(key, value) for key, value in fields.items() if key not in _SHOWN_APART]
    return "".join(f" {clean(str(key))}={_value(value)}" for key, value in pairs if value not in (None, "", [], {}))


def local_time(text: str) -> str:
    """Return the time of day, in this machine's zone, to a millisecond."""
    try:
        return datetime.fromisoformat(text).astimezone().strftime("%H:%M:%S.%f")[:-3]
    except ValueError:
        return " " * 12


def clean(text: str) -> str:
    """Return text without control characters."""
    return _CONTROL.sub("�", text)


def one_line(text: str) -> str:
    """Return text without control characters and line ends, for a table's cell."""
    return " ".join(clean(text).split())


def json_text(body: Any, indent: int | None = None) -> str:
    """Return JSON that is safe to show: what could steer a terminal is escaped; letters of any language stay."""
    text = json.dumps(body, indent=indent, ensure_ascii=False)
    return _UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def seconds(value: float) -> str:
    """Return a duration as people say it: 0.4 s, 12.3 s, 2 min 05 s, 1 h 02 min."""
    if value < 60:
        return f"{value:.1f} s"
    if value < 3600:
        return f"{int(value // 60)} min {int(value % 60):02d} s"
    return f"{int(value // 3600)} h {int(value % 3600 // 60):02d} min"


def plain(text: str) -> str:
    """Return text that rich takes literally, brackets included."""
    return escape(clean(text))


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = clean(text)
    return json.dumps(text, ensure_ascii=False) if " " in text else text
