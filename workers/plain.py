"""Whether a value that somebody else wrote can be kept in the ledger and sent in an event.

JSON as Python reads it has NaN, infinities and halves of characters, which no event can carry: let in, they would stop the
run at its last step, at every try again.
"""

import math
from typing import Any

_DEEPEST = 20  # lists and objects in each other; predictions are nested a few deep


def is_number(value: Any) -> bool:
    """Tell whether it is a finite number; true and false are none."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond any float
        return False


def is_text(value: Any) -> bool:
    """Tell whether it is a text that UTF-8 can write."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_plain(value: Any, deepest: int = _DEEPEST) -> bool:
    """Tell whether it is made of finite numbers, texts, true, false, null, lists and objects, not nested too deep."""
    if deepest == 0:
        return False
    if isinstance(value, list):
        return all(is_plain(item, deepest - 1) for item in value)
    if isinstance(value, dict):
        return all(is_text(key) and is_plain(item, deepest - 1) for key, item in value.items())
    return value is None or isinstance(value, bool) or is_number(value) or is_text(value)
