"""Google's naming rules for buckets and objects, and order of names.

Objects sort by the bytes of their UTF-8 names, which is also SQLite's order for text.
No name is ever used as a path: contents are files named by random ids.
Source: the "Bucket naming" and "Object naming" requirements in Cloud Storage's documentation.
"""

import ipaddress
import re

from localcloud.storage import errors

_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_MAX_BUCKET_PART = 63
_MAX_OBJECT_NAME_BYTES = 1024
_FIRST_SURROGATE, _AFTER_SURROGATES, _LAST_CHARACTER = 0xD800, 0xE000, 0x10FFFF


def check_bucket_name(name: str) -> None:
    """Refuse a name that Cloud Storage would refuse.

    Raises:
        ApiError: 400; the message names the rule that it breaks.
    """
    problem = ""
    if not _BUCKET.fullmatch(name):
        problem = "use 3 to 63 of a-z, 0-9, '-', '_' and '.', beginning and ending with a letter or digit"
    elif any(not 0 < len(part) <= _MAX_BUCKET_PART for part in name.split(".")):
        problem = "each part between dots has 1 to 63 characters"
    elif "." not in name and len(name) > _MAX_BUCKET_PART:
        problem = "a name without dots has at most 63 characters"
    elif name.startswith("goog") or "google" in name:
        problem = "it may neither begin with 'goog' nor contain 'google'"
    elif _is_address(name):
        problem = "it may not look like an IP address"
    if problem:
        raise errors.invalid(f"Invalid bucket name: '{name}': {problem}.")


def check_object_name(name: str) -> None:
    """Refuse a name that Cloud Storage would refuse, and NUL, which too many tools cut a name at.

    Raises:
        ApiError: 400; the message names the rule that it breaks.
    """
    try:
        length_bytes = len(name.encode())
    except UnicodeEncodeError:
        raise errors.invalid(f"Invalid object name {name!r}: it is not valid Unicode.") from None
    if not 0 < length_bytes <= _MAX_OBJECT_NAME_BYTES:
        raise errors.invalid(
            f"The specified object name is {length_bytes} bytes long in UTF-8; it must have 1 to 1024."
        )
    if name in (".", "..") or name.startswith(".well-known/acme-challenge/"):
        raise errors.invalid(f"Invalid object name {name!r}: Cloud Storage reserves it; choose another.")
    if any(character in name for character in "\r\n\0"):
        raise errors.invalid(f"Invalid object name {name!r}: it may not contain CR, LF or NUL.")


def after_prefix(prefix: str) -> str | None:
    """The smallest name that sorts after every name that begins with `prefix`; None if there is none."""
    while prefix:
        following = ord(prefix[-1]) + 1
        if following == _FIRST_SURROGATE:
            following = _AFTER_SURROGATES
        if following <= _LAST_CHARACTER:
            return prefix[:-1] + chr(following)
        prefix = prefix[:-1]
    return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
