"""Who does it: the name that a person's doings carry in the ledger."""

import getpass
import os
import socket


def whoami() -> str:
    """Return `user@machine-pid`; unique enough to tell two terminals apart."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"  # a container may run under a number that has no name
    return f"{user}@{socket.gethostname()}-{os.getpid()}"
