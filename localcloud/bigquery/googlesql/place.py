"""Where in the query something stands: the `[line:column]` that BigQuery's errors end with."""

from __future__ import annotations

from typing import Any


def place_of(node: Any, text: str) -> str:
    """` at [line:column]` of a node, or nothing when the parser kept no position for it."""
    for one in node.walk():
        start = one.meta.get("start")
        if start is not None:
            return at_offset(text, int(start))
    return ""


def place_of_word(text: str, word: str) -> str:
    """` at [line:column]` of the first identifier that reads like `word`, or nothing."""
    import re

    found = re.search(rf"(?<![\w]){re.escape(word)}(?![\w])", text, re.IGNORECASE)
    return at_offset(text, found.start()) if found else ""


def at_offset(text: str, offset: int) -> str:
    """` at [line:column]` of a character offset."""
    before = text[:offset]
    return f" at [{before.count(chr(10)) + 1}:{offset - (before.rfind(chr(10)) + 1) + 1}]"
