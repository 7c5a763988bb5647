"""What the commands share: consoles, JSON answers, the profile, examples at the end of the help."""

import json
import math
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click
from rich.console import Console

from baton.errors import BatonError, Refused
from baton.render import json_text, plain

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON on stdout.")
pipeline_option = click.option(
    "--pipeline", default="babyweight", show_default=True, metavar="NAME", help="The pipeline."
)


class Seconds(click.ParamType[float]):
    """A span of time: a number of seconds, none or more. `nan` would be waited for without an end."""

    name = "seconds"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> float:
        try:
            span_s = float(value)
        except ValueError:
            span_s = math.nan
        if not span_s >= 0:
            self.fail(f"{value!r} is no span of time; give a number of seconds, such as 60", parameter, context)
        return span_s


def wait_option(help_text: str = "Watch the run to its end; exit 1 if it fails.") -> Callable[[F], F]:
    """Return the option; it is read before `timeout_option`, which is nothing without it."""
    return click.option("--wait", is_flag=True, is_eager=True, help=help_text)


def _only_with_wait(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    if value is not None and not context.params.get("wait"):
        raise click.BadParameter("nothing is waited for; give --wait too", context, parameter)
    return value


timeout_option = click.option(
    "--timeout", type=Seconds(), metavar="SECONDS", callback=_only_with_wait, help="With --wait: how long at most."
)

_FILE_WIDTH = 160  # a file or a pipe has no width of its own; tables stand there as wide as they are


def answers() -> Console:
    """Return the console of answers: stdout."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _FILE_WIDTH)


def remarks() -> Console:
    """Return the console of everything that is not an answer: stderr."""
    return Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else _FILE_WIDTH)


def report(fault: BatonError) -> int:
    """Say on stderr what is wrong and what to do about it; return the exit code that belongs to it."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"[bold red]baton:[/] {plain(fault.message)}")
    if fault.mend:
        console.print(f"[bold]mend:[/]  {plain(fault.mend)}")
    return fault.exit_code


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
