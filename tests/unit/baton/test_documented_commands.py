"""Every `baton` command that the documents show is one that `baton` understands."""

import re
import shlex
from pathlib import Path

import click
import pytest

from baton.cli import baton

ROOT = Path(__file__).parents[3]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_COMMAND = re.compile(r"^\s*(?:\$ )?(?:\.venv/bin/)?baton (?P<rest>[^#\n]+)", re.MULTILINE)


def commands() -> list[tuple[str, str]]:
    """Return (document, arguments) of each command line inside a code block."""
    found = []
    for document in DOCUMENTS:
        for block in re.findall(r"```[a-z]*\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL):
            found += [(document.name, match["rest"].strip()) for match in _COMMAND.finditer(block)]
    return found


def understand(group: click.Group, arguments: list[str]) -> None:
    """Parse the arguments down to the last command, running none."""
    command: click.Command = group
    context = click.Context(group)
    while isinstance(command, click.Group) and arguments:
        name, found, arguments = command.resolve_command(context, arguments)
        assert found is not None, name
        command = found
        if isinstance(command, click.Group):
            context = click.Context(command, parent=context)
    if isinstance(command, click.Group):
        assert command.invoke_without_command, f"{command.name} needs a command after it"
        return
    command.make_context(command.name or "", arguments, parent=context)


def test_the_documents_show_commands() -> None:
    """The extraction finds the README's commands, so that the test below tests something."""
    assert len([c for c in commands() if c[0] == "README.md"]) >= 6


@pytest.mark.parametrize(("document", "arguments"), commands(), ids=lambda text: text[:40])
def test_a_command_in_the_documents_is_understood(document: str, arguments: str) -> None:
    """Commands, options and required arguments are the real ones."""
    understand(baton, shlex.split(arguments.replace("…", "")))
