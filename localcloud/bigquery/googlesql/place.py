"""Where in the query something stands: the `[line:column]` that BigQuery's errors end with."""

from __future__ import annotations

from typing import Any


def place_of(node: Any, text: str) -> str:
    """` at [line:column]` of a node, or nothing when the parser kept no position for it."""
    starts = [int(one.meta["start"]) for one in node.walk() if one.meta.get("start") is not None]
    return at_offset(text, min(starts)) if starts else ""


def place_of_word(text: str, word: str) -> str:
    """` at [line:column]` of the first identifier that reads like `word`, or nothing."""
    import re

    found = re.search(rf"(?<![\w]){re.escape(word)}(?![\w])", text, re.IGNORECASE)
    return at_offset(text, found.start()) if found else ""


def at_offset(text: str, offset: int) -> str:
    """` at [line:column]` of a character offset."""
    before = text[:offset]
    return f" at [{before.count(chr(10)) + 1}:{offset - (before.rfind(chr(10)) + 1) + 1}]"
