"""Partial responses: the standard `fields` parameter (`items(id,name),nextPageToken`, `a/b`, `*`)."""

import functools
import re
from typing import Any

_TOKEN = re.compile(r"[^,()/]+|[,()/]")

# name -> what of it is wanted; an empty tree means all of it.
Tree = dict[str, "Tree"]


class FieldsError(ValueError):
    """A `fields` selector that cannot be read."""


@functools.lru_cache(maxsize=16)  # a client asks for the same few fields every time
def parse_fields(text: str) -> Tree:
    """Parse a selector into a tree, which nobody may change.

    Raises:
        FieldsError: unbalanced parentheses or an empty name.
    """
    tokens = _TOKEN.findall(text)
    tree, rest = _parse_list(tokens, 0)
    if rest != len(tokens):
        raise FieldsError(f"Invalid field selection {text}")
    return tree


def select(tree: Tree, value: Any) -> Any:
    """Return only what the tree asks for; lists are selected item by item, as Google does."""
    if not tree:
        return value
    if isinstance(value, list):
        return [select(tree, item) for item in value]
    if not isinstance(value, dict):
        return value
    star = tree.get("*")
    picked: dict[str, Any] = {}
    for key, item in value.items():
        wanted = tree.get(key, star)
        if wanted is not None:
            picked[key] = select(wanted, item)
    return picked


def _parse_list(tokens: list[str], at: int) -> tuple[Tree, int]:
    tree: Tree = {}
    while True:
        name, subtree, at = _parse_path(tokens, at)
        _merge(tree, name, subtree)
        if at >= len(tokens) or tokens[at] != ",":
            return tree, at
        at += 1


def _parse_path(tokens: list[str], at: int) -> tuple[str, Tree, int]:
    if at >= len(tokens) or tokens[at] in ",()/":
        raise FieldsError("Invalid field selection " + "".join(tokens))
    name = tokens[at].strip()
    at += 1
    if at < len(tokens) and tokens[at] == "/":
        inner, subtree, at = _parse_path(tokens, at + 1)
        return name, {inner: subtree}, at
    if at < len(tokens) and tokens[at] == "(":
        subtree, at = _parse_list(tokens, at + 1)
        if at >= len(tokens) or tokens[at] != ")":
            raise FieldsError("Invalid field selection " + "".join(tokens))
        return name, subtree, at + 1
    return name, {}, at


def _merge(tree: Tree, name: str, subtree: Tree) -> None:
    present = tree.get(name)
    if present is None:
        tree[name] = subtree
    elif not present or not subtree:
        tree[name] = {}
    else:
        for key, value in subtree.items():
            _merge(present, key, value)
