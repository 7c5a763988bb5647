"""What the options of `baton dlq edit` ask for, as a change of a letter's content."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from baton.cli.common import remarks
from baton.errors import Refused
from baton.render import plain

if TYPE_CHECKING:
    from baton.dlq.letter import Content


def change_of(
    original: "Content",
    *,
    fields: tuple[str, ...],
    unset: tuple[str, ...],
    attributes: tuple[str, ...],
    unset_attributes: tuple[str, ...],
    data: str | None,
    reset: bool,
) -> "Callable[[Content], Content]":
    """Return what the options ask for as a change of the letter's content."""
    from baton.dlq.editing import with_fields
    from baton.dlq.letter import Content

    def by_options(current: Content) -> Content:
        before = original if reset else current
        if data is not None:
            before = Content.of(_data(data), before.attributes)
        return with_fields(
            before,
            _values(fields),
            unset=unset,
            attributes=_texts(attributes, "--set-attribute"),
            unset_attributes=unset_attributes,
        )

    is_given = any((fields, unset, attributes, unset_attributes, reset)) or data is not None
    return by_options if is_given else _in_editor


def _in_editor(current: "Content") -> "Content":
    from baton.cli.editor import edited_text
    from baton.dlq.editing import document, read_document

    if not sys.stdin.isatty():
        raise Refused("there is no terminal to edit in", "give --set FIELD=VALUE, --data or --reset")
    text = document(current)
    while True:
        text = edited_text(text)
        try:
            return read_document(text, current)
        except Refused as fault:
            # A comma too many must not cost a person all that he has written.
            remarks().print(f"[bold red]{plain(fault.message)}[/]", soft_wrap=True)
            if not click.confirm("edit it again?", default=True, err=True):
                raise


def _data(text: str) -> bytes:
    if not text.startswith("@"):
        return text.encode(errors="surrogateescape")
    path = Path(text[1:])
    try:
        return path.read_bytes()
    except OSError as fault:
        raise Refused(f"--data {text} cannot be read ({fault})", "name a readable file") from fault


def _values(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Read `field=value` texts; a value that is JSON is that, anything else is text."""
    found: dict[str, Any] = {}
    for name, value in _texts(pairs, "--set").items():
        try:
            found[name] = json.loads(value)
        except (ValueError, RecursionError):
            found[name] = value
    return found


def _texts(pairs: tuple[str, ...], option: str) -> dict[str, str]:
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            example = "source=gs://my-data/births.csv" if option == "--set" else "ce-type=baton.data.ready.v1"
            raise Refused(f"{option} {pair!r} is no name=value", f"write it like {option} {example}")
        found[name] = value
    return found
