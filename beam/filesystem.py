"""Files by URI, local or in Cloud Storage, through pyarrow's filesystems.

Not through Beam's own: that builds a Python client which looks for credentials for 20 s on a laptop without any.
pyarrow's client is native code, starts at once, honours Application Default Credentials in the cloud, and writes an
object in one go. It does not know `STORAGE_EMULATOR_HOST`, which the other Google clients obey, so we do.
"""

import errno
import functools
import os
import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from beam.errors import SourceError, SourceNotFound, UnsupportedSource

RETRY_S = (
    30  # a store that is away for half a minute is worth an error; the job itself is retried by whoever launched it
)
_NOT_FOR_US = (errno.ENOENT, errno.EACCES, errno.EPERM)  # as pyarrow puts Cloud Storage's 404, 401 and 403
_SCHEME = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_WILDCARD = re.compile(r"[*?]")


@dataclass(frozen=True)
class Location:
    """A place in a filesystem: the filesystem's own path, and how to write that as a URI again."""

    filesystem: fs.FileSystem
    path: str
    prefix: str  # "gs://" or "": what precedes `path` in a URI

    @property
    def uri(self) -> str:
        """The address as a user would write it."""
        return self.prefix + self.path

    @property
    def is_local(self) -> bool:
        """Whether this is a directory tree, with directories to create and names to rename."""
        return not self.prefix

    def __truediv__(self, name: str) -> "Location":
        """Return the place of `name` below this one."""
        return Location(self.filesystem, f"{self.path.rstrip('/')}/{name}", self.prefix)

    def write_bytes(self, data: bytes | pa.Buffer) -> None:
        """Write the whole file at once; in Cloud Storage nobody sees a part of it."""
        if self.is_local:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
        with self.filesystem.open_output_stream(self.path) as stream:
            stream.write(data)

    def read_bytes(self) -> bytes:
        """Return the whole content."""
        with self.filesystem.open_input_stream(self.path) as stream:
            return bytes(stream.read())

    def size_bytes(self) -> int | None:
        """Return the size; None where there is no file."""
        info = self.filesystem.get_file_info(self.path)
        return info.size if info.type == fs.FileType.File else None

    def delete_if_there(self) -> None:
        """Delete the file; that there is none is fine."""
        if self.size_bytes() is not None:
            self.filesystem.delete_file(self.path)

    def list_files(self, *, recursive: bool = True) -> list[str]:
        """Return the paths of the files below, relative to this place, sorted; none where the place does not exist."""
        selector = fs.FileSelector(self.path, recursive=recursive, allow_not_found=True)
        infos = self.filesystem.get_file_info(selector)
        base = self.path.rstrip("/") + "/"
        return sorted(info.path.removeprefix(base) for info in infos if info.type == fs.FileType.File)


def locate(uri: str) -> Location:
    """Return the place that a URI names: `gs://bucket/path`, `file:///path` or a local path.

    Raises:
        UnsupportedSource: another scheme.
    """
    match = _SCHEME.match(uri)
    scheme = match["scheme"].lower() if match else "file"
    rest = uri[match.end() :] if match else uri
    if scheme == "gs":
        return Location(_cloud_storage(os.environ.get("STORAGE_EMULATOR_HOST", "")), rest.rstrip("/"), "gs://")
    if scheme == "file":
        return Location(fs.LocalFileSystem(), os.path.abspath(rest), "")
    raise UnsupportedSource(f"{uri!r} has the scheme {scheme}://, which is not read; use gs://, bq:// or a local path")


def expand(uri: str) -> list[tuple[Location, int]]:
    """Return the files that a URI, a directory or a pattern names, with their sizes in bytes, sorted by name.

    A pattern knows `*` and `?` within one directory and `**` across directories. Names that begin with `.` or `_` are
    passed over unless the pattern has such a name itself, as every tool of this trade does.

    Raises:
        SourceNotFound: nothing is there, or nothing that we may see.
        SourceError: the store did not answer.
    """
    place = locate(uri)
    try:
        found = _match_pattern(place) if _WILDCARD.search(place.path) else _match_plain(place)
    except OSError as error:
        kind = SourceNotFound if error.errno in _NOT_FOR_US else SourceError
        raise kind(f"source {uri!r} cannot be looked up ({_first_line(error)}); check bucket and access") from error
    if not found:
        raise SourceNotFound(
            f"source {uri!r} does not exist; check the name, or upload the file before starting the job"
        )
    return sorted(found, key=lambda pair: pair[0].path)


def _match_plain(place: Location) -> list[tuple[Location, int]]:
    info = place.filesystem.get_file_info(place.path)
    if info.type == fs.FileType.File:
        return [(place, info.size)]
    return [pair for pair in _below(place) if not _is_hidden(pair[0].path.removeprefix(place.path))]


def _match_pattern(place: Location) -> list[tuple[Location, int]]:
    head = place.path[: _WILDCARD.search(place.path).start()]  # type: ignore[union-attr]  # the caller found one
    base = head.rpartition("/")[0] or "/"
    if not place.is_local and not head.rpartition("/")[0]:
        raise SourceNotFound(f"source {place.uri!r} has a wildcard in the bucket's name; name one bucket")
    pattern = _pattern(place.path)
    found = _below(Location(place.filesystem, base, place.prefix))
    matched = [pair for pair in found if pattern.fullmatch(pair[0].path)]
    if _is_hidden(place.path.removeprefix(base)):  # the pattern itself names such files
        return matched
    return [pair for pair in matched if not _is_hidden(pair[0].path.removeprefix(base))]


def _below(place: Location) -> list[tuple[Location, int]]:
    selector = fs.FileSelector(place.path, recursive=True, allow_not_found=True)
    infos = place.filesystem.get_file_info(selector)
    return [
        (Location(place.filesystem, info.path, place.prefix), info.size)
        for info in infos
        if info.type == fs.FileType.File
    ]


def _is_hidden(relative: str) -> bool:
    return any(part.startswith((".", "_")) for part in relative.strip("/").split("/"))


def _pattern(path: str) -> re.Pattern[str]:
    kinds = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    pieces = re.split(r"(\*\*|\*|\?)", path)
    return re.compile("".join(kinds.get(piece, re.escape(piece)) for piece in pieces))


@functools.lru_cache(maxsize=4)
def _cloud_storage(emulator: str) -> fs.FileSystem:
    limit = timedelta(seconds=RETRY_S)
    if not emulator:
        return fs.GcsFileSystem(retry_time_limit=limit)
    address = urlsplit(emulator if "://" in emulator else f"http://{emulator}")
    return fs.GcsFileSystem(
        anonymous=True, endpoint_override=address.netloc, scheme=address.scheme, retry_time_limit=limit
    )


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0][:300]
