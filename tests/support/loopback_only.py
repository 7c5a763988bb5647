"""Makes a process refuse every socket that is not loopback, and remember which hosts it asked for.

An audit hook sees each name that is resolved and each address that is connected or bound through Python's `socket`.
C++ libraries (gRPC's core, pyarrow) have sockets of their own; for those `non_loopback_sockets` looks at the kernel's list.
"""

import ipaddress
import sys
from typing import Any

import psutil

seen: list[str] = []


class NotLoopback(Exception):
    """Something reached out."""


def enforce() -> None:
    """From now on, for the rest of this process's life."""
    sys.addaudithook(_audit)


def non_loopback_sockets(pid: int) -> list[str]:
    """The process's sockets, listening or connected, whose other end or own address is not loopback."""
    found = []
    for connection in psutil.Process(pid).net_connections("inet"):
        for address in (connection.laddr, connection.raddr):
            if address and not _is_loopback(address.ip):
                found.append(f"{connection.status} {connection.laddr} -> {connection.raddr}")
    return found


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.getaddrinfo":
        _check(arguments[0])
    elif event in ("socket.connect", "socket.bind", "socket.sendto") and isinstance(arguments[1], tuple):
        _check(arguments[1][0])


def _check(host: object) -> None:
    text = host.decode() if isinstance(host, bytes) else str(host or "")
    if text not in seen:
        seen.append(text)
    if not _is_loopback(text):
        raise NotLoopback(f"a socket to {text!r} was asked for; in local mode everything stays on loopback")


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)  # gRPC's core binds 127.0.0.1 as ::ffff:127.0.0.1
    return bool((mapped or address).is_loopback)
