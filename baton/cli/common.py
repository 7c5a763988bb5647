"""What the commands share: consoles, JSON answers, the profile, examples at the end of the help."""

import json
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click
from rich.console import Console

from baton.errors import Refused
from baton.render import json_text

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON on stdout.")
pipeline_option = click.option(
    "--pipeline", default="babyweight", show_default=True, metavar="NAME", help="The pipeline."
)


_FILE_WIDTH = 160  # a file or a pipe has no width of its own; tables stand there as wide as they are


def answers() -> Console:
    """Return the console of answers: stdout."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _FILE_WIDTH)


def remarks() -> Console:
    """Return the console of everything that is not an answer: stderr."""
    return Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else _FILE_WIDTH)


def print_json(body: Any) -> None:
    """Print one JSON document on stdout."""
    click.echo(json_text(body, indent=2))


def print_json_line(body: Any) -> None:
    """Print one JSON object on a line of its own on stdout."""
    click.echo(json_text(body))


def examples(*commands: str, json_shape: str = "") -> str:
    """Return the end of a command's help: commands one can paste, and what --json prints."""
    lines = ["\b", "examples:", *(f"  {command}" for command in commands)]
    if json_shape:
        lines += ["", "\b", f"--json prints {json_shape}"]
    return "\n".join(lines)


def key_values(texts: tuple[str, ...], option: str) -> dict[str, Any]:
    """Read `key=value` texts; a value that is a JSON number or true/false is one, anything else is text.

    Raises:
        Refused: one has no `=`.
    """
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise Refused(f"{option} {text!r} is no key=value", f"write it like {option} limit=1000")
        found[key.strip()] = _scalar(value)
    return found


def _scalar(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, int | float) else text
