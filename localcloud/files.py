"""Small files that another process may read at any time: written whole or not at all."""

import contextlib
import os
import uuid
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Replace the file by `text`: a reader sees the old one or the new one, also after a crash."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
