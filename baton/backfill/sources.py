"""What a backfill reads: URIs as they are, a bucket's objects by a pattern, or a file with one of either a line."""

import fnmatch
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from baton.connections import Connections
from baton.errors import Refused
from messages import DataReady, DecodeError
from messages.codec import validate

_PATTERN = "*?["
_MOST = 100_000  # sources; more belong into several backfills
Names = Callable[[str, str], Iterable[str]]


def sources_of(given: Iterable[str], names: Names) -> list[str]:
    """Return the sources that the words stand for, each once, in their order.

    Args:
        given: URIs, `gs://bucket/pattern*`, names of files that list such, or `-` for stdin.
        names: (bucket, prefix) to the names of the objects there.

    Raises:
        Refused: a word stands for nothing, or for something that is no source.
    """
    found: dict[str, None] = {}
    for word in given:
        for uri in _expanded(word, names):
            found[_checked(uri, word)] = None
    if not found:
        raise Refused("no source was given", "give --sources URI, a pattern like 'gs://my-data/2022-*.csv', or a file")
    if len(found) > _MOST:
        raise Refused(f"{len(found)} sources are too many for one backfill", f"give at most {_MOST} at a time")
    return list(found)


def names_in(connections: Connections) -> Names:
    """Return what lists a bucket's objects."""

    def names(bucket: str, prefix: str) -> Iterator[str]:
        for blob in connections.storage.list_blobs(bucket, prefix=prefix, fields="items(name),nextPageToken"):
            yield blob.name

    return names


def _expanded(word: str, names: Names) -> Iterator[str]:
    if word.startswith("gs://") and any(sign in word for sign in _PATTERN):
        yield from _matching(word, names)
    elif "://" in word:
        yield word
    else:
        yield from _listed(word, names)


def _matching(pattern: str, names: Names) -> Iterator[str]:
    bucket, _, name = pattern.removeprefix("gs://").partition("/")
    fixed = name[: min(name.find(sign) for sign in _PATTERN if sign in name)]
    matched = sorted(found for found in names(bucket, fixed) if fnmatch.fnmatchcase(found, name))
    if not matched:
        raise Refused(f"no object matches {pattern}", "quote the pattern, and look with `gcloud storage ls`")
    yield from (f"gs://{bucket}/{found}" for found in matched if not found.endswith("/"))


def _listed(word: str, names: Names) -> Iterator[str]:
    try:
        text = sys.stdin.read() if word == "-" else Path(word).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise Refused(
            f"--sources {word!r} is no URI and cannot be read as a list ({fault})",
            "give a URI like gs://my-data/births.csv, or a file with one a line",
        ) from fault
    for line in text.splitlines():
        uri = line.strip()
        if uri and not uri.startswith("#"):
            if "://" not in uri:
                raise Refused(f"{uri!r} in {word} is no URI", "write one like gs://my-data/births.csv a line")
            yield from _expanded(uri, names)


def _checked(uri: str, word: str) -> str:
    try:
        validate(DataReady, {"pipeline": "any", "source": uri}, "--sources")
    except DecodeError as fault:
        raise Refused(f"{uri!r} (from {word}) is no source", fault.mend) from fault
    return uri
