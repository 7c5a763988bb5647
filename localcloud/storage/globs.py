"""The `matchGlob` parameter: `*` and `?` stay within a path segment, `**` does not, `[a-z]` and `{a,b}` choose."""

import re

from localcloud.storage import errors


def compile_glob(pattern: str) -> re.Pattern[str]:
    """Translate a glob into a regular expression.

    Raises:
        ApiError: 400 for an open bracket or brace.
    """
    parts: list[str] = []
    depth = 0
    at = 0
    while at < len(pattern):
        character = pattern[at]
        at += 1
        if character == "*":
            is_deep = pattern.startswith("*", at)
            at += is_deep
            parts.append(".*" if is_deep else "[^/]*")
        elif character == "?":
            parts.append("[^/]")
        elif character == "[":
            at, text = _character_class(pattern, at)
            parts.append(text)
        elif character == "{":
            depth += 1
            parts.append("(?:")
        elif character == "}" and depth:
            depth -= 1
            parts.append(")")
        elif character == "," and depth:
            parts.append("|")
        else:
            if character == "\\" and at < len(pattern):
                character = pattern[at]
                at += 1
            parts.append(re.escape(character))
    if depth:
        raise errors.invalid(f"Invalid matchGlob {pattern!r}: a '{{' is not closed; close it with '}}'.")
    return re.compile("".join(parts), re.DOTALL)


def _character_class(pattern: str, at: int) -> tuple[int, str]:
    """Translate from behind `[`; return where to go on and the translation."""
    end = pattern.find("]", at + 1)
    if end < 0:
        raise errors.invalid(f"Invalid matchGlob {pattern!r}: a '[' is not closed; close it with ']'.")
    inner = pattern[at:end]
    is_negated = inner[:1] in ("!", "^")
    body = inner[1:] if is_negated else inner
    escaped = re.sub(r"([\\\[\]^&~|])", r"\\\1", body)
    text = f"[{'^/' if is_negated else ''}{escaped}]"
    try:
        re.compile(text)
    except re.error:
        raise errors.invalid(f"Invalid matchGlob {pattern!r}: [{inner}] is no range of characters.") from None
    return end + 1, text
