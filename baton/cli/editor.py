"""Has a person edit a text in the editor that he has set."""

import os
import shlex
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from baton.errors import Refused

_DEFAULT = "vi"


def edited_text(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return the text as the person left it.

    Raises:
        Refused: the editor cannot be started, or says that it failed.
    """
    wish = environment.get("VISUAL") or environment.get("EDITOR") or _DEFAULT
    with tempfile.TemporaryDirectory(prefix="baton-") as folder:
        path = Path(folder) / "dead-letter.json"
        path.write_text(text, encoding="utf-8")
        try:
            # An argument list and no shell: the variable may say `code --wait`, and nothing more than that.
            done = subprocess.run([*shlex.split(wish), str(path)], check=False)
        except (OSError, ValueError) as fault:
            raise Refused(f"the editor {wish!r} cannot be started ({fault})", "set EDITOR, or use --set") from fault
        if done.returncode != 0:
            raise Refused(f"the editor {wish!r} ended with {done.returncode}", "nothing was changed")
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as fault:
            raise Refused(f"the edited text cannot be read ({fault})", "save it in UTF-8") from fault
