"""Moves parts of the local cloud whose port somebody else has taken since the last start.

The local cloud comes back on its old ports, and rather fails than moves, because running workers know it by them. But
when `baton up` starts, none of ours run yet, so a port that another program has meanwhile can simply be given up.
"""

import json
import socket
from pathlib import Path

FILE = Path("cloud") / "ports.json"
HOST = "127.0.0.1"


def moved_ports(home: Path) -> dict[str, tuple[int, int]]:
    """Return {part: (old port, new port)} of the parts that have to move."""
    try:
        kept = json.loads((home / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # the first start, or a file that the local cloud itself will complain about
    if not isinstance(kept, dict):
        return {}
    return {name: (port, free_port()) for name, port in kept.items() if isinstance(port, int) and not is_free(port)}


def is_free(port: int) -> bool:
    """Tell whether a server of ours could listen there."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError):
            return False
    return True


def free_port() -> int:
    """Return a port that is free now."""
    with socket.create_server((HOST, 0)) as server:
        port: int = server.getsockname()[1]
    return port


def as_option(given: str, moved: dict[str, tuple[int, int]]) -> str:
    """Return `--ports` of the local cloud: what was given by hand, and the moved parts that were not."""
    by_hand = {item.partition("=")[0].strip() for item in given.split(",") if item.strip()}
    parts = [given] if given else []
    return ",".join([*parts, *(f"{name}={new}" for name, (_, new) in moved.items() if name not in by_hand)])
