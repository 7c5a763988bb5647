"""Which local command stands for a container image: read from `images.toml`.

```toml
[images.baton-trainer]                    # the last part of the image's URI, without tag or digest
command = ["{python}", "-m", "trainer.task"]   # {python} is the interpreter that runs the local cloud
directory = ".."                          # optional, the working directory, relative to this file
env = { PYTHONUNBUFFERED = "1" }          # optional, as ENV in a container file
```
"""

import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_PYTHON_NAMES = ("python", "python3")


class ImagesError(ValueError):
    """`images.toml` cannot be used; names the file, the entry and the mend."""


@dataclass(frozen=True, slots=True)
class Image:
    """A local command in place of a container image. An empty `directory` means a scratch directory for each run."""

    command: tuple[str, ...]
    directory: str = ""
    env: Mapping[str, str] = field(default_factory=dict)

    def argv(self, command: Sequence[str] = (), args: Sequence[str] = ()) -> list[str]:
        """The argument list: as in a container, a given command replaces the image's own; arguments follow."""
        argv = [*(command or self.command), *args]
        if argv[0] in _PYTHON_NAMES:
            argv[0] = sys.executable
        return argv


class Images:
    """All known images; `source` is named in refusals."""

    def __init__(self, images: Mapping[str, Image], source: str) -> None:
        self._images = dict(images)
        self._source = source

    @classmethod
    def load(cls, path: Path) -> "Images":
        """Read `images.toml`.

        Raises:
            ImagesError: unreadable, not TOML, or an entry of the wrong shape.
        """
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ImagesError(f"cannot read the image table {path}: {error}") from error
        entries = document.get("images", {})
        if not isinstance(entries, dict):
            raise ImagesError(f"images in {path} is {entries!r}; expected tables [images.NAME].")
        return cls({name: _image(path, name, entry) for name, entry in entries.items()}, str(path))

    def find(self, uri: str) -> Image | None:
        """Return the image of a URI, None when there is none."""
        return self._images.get(image_name(uri))

    def refusal(self, uri: str) -> str:
        """Say, as a failed pull would, that an image is unknown, and what to do."""
        known = ", ".join(sorted(self._images)) or "none"
        return (
            f'Failed to pull image "{uri}": the local cloud knows no image named {image_name(uri)!r} '
            f"(known: {known}); add [images.{image_name(uri)}] to {self._source}."
        )


def image_name(uri: str) -> str:
    """`us-docker.pkg.dev/p/r/baton-trainer:v1@sha256:…` -> `baton-trainer`."""
    return uri.partition("@")[0].rpartition("/")[2].partition(":")[0]


def _image(path: Path, name: str, entry: Any) -> Image:
    if not isinstance(entry, dict):
        raise ImagesError(f"[images.{name}] in {path} is {entry!r}; expected a table with a command.")
    unknown = sorted(set(entry) - {"command", "directory", "env"})
    if unknown:
        raise ImagesError(f"[images.{name}] in {path} has unknown keys {unknown}; use command, directory, env.")
    command = entry.get("command")
    if not (isinstance(command, list) and command and all(isinstance(part, str) for part in command)):
        raise ImagesError(f"[images.{name}].command in {path} is {command!r}; expected a list of texts, not empty.")
    env = entry.get("env", {})
    if not (isinstance(env, dict) and all(isinstance(value, str) for value in env.values())):
        raise ImagesError(f"[images.{name}].env in {path} is {env!r}; expected names and texts.")
    directory = entry.get("directory", "")
    if not isinstance(directory, str):
        raise ImagesError(f"[images.{name}].directory in {path} is {directory!r}; expected a text.")
    resolved = str((path.parent / directory).resolve()) if directory else ""
    argv = tuple(part.replace("{python}", sys.executable) for part in command)
    return Image(argv, resolved, dict(env))
