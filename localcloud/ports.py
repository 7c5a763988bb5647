"""Which port each part listens on: a free one at the first start, and the same one ever after.

Chosen below the range from which the kernel takes the ports of outgoing connections: one from inside it could be taken by
any client on the machine while the local cloud is down.

Clients keep the endpoints in their environment, so a restart must come back where it was. `ports.json` remembers.
"""

import asyncio
import errno
import json
import random
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from localcloud.files import write_atomically

_FILE = "ports.json"
# After kill -9 the kernel may need a moment to close the old listener, or one that a child still holds.
_LINGER_S = 3.0
_RETRY_S = 0.05
_HIGHEST_PORT = 65535
_CHOSEN_FROM = range(20_000, 32_000)  # below 32768, where Linux's ephemeral ports begin; IANA's begin at 49152
_CHOICES = 200


class PortError(OSError):
    """A port that can't be had; names the part, the port and the mend."""


class PortBook:
    """The ports of one data directory.

    Args:
        asked: ports given by hand, by part name; 0 asks for none in particular.
    """

    def __init__(self, data_dir: Path, asked: Mapping[str, int] | None = None) -> None:
        self._path = data_dir / _FILE
        self._chosen: dict[str, int] = {}  # by parts that do not listen yet
        self._ports = self._load()
        self._ports.update({name: port for name, port in (asked or {}).items() if port})

    def port(self, name: str) -> int:
        """Where the part should listen; 0 while it has never listened."""
        return self._ports.get(name, 0)

    def port_or_free(self, name: str, host: str) -> int:
        """The part's port, or a free one while it has never listened; 0, the kernel's choice, if none is found.

        No two parts get the same one, although none of them listens yet.
        """
        if self.port(name):
            return self.port(name)
        dice = random.SystemRandom()
        others = {*self._ports.values(), *self._chosen.values()}
        tries = (dice.choice(_CHOSEN_FROM) for _ in range(_CHOICES))
        self._chosen[name] = next((port for port in tries if port not in others and _try_bind(host, port) is None), 0)
        return self._chosen[name]

    def remember(self, name: str, port: int) -> None:
        """Keep the port for the next start, beside those that others have put down meanwhile."""
        self._ports[name] = port
        write_atomically(self._path, json.dumps(self._load() | {name: port}, indent=2) + "\n")

    def _load(self) -> dict[str, int]:
        try:
            ports = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise PortError(f"{self._path} is not JSON ({error}); delete it to have free ports chosen anew.") from error
        if not isinstance(ports, dict) or not all(_is_port(port) for port in ports.values()):
            raise PortError(f"{self._path} does not map part names to ports; delete it to have free ones chosen.")
        return ports


async def wait_until_free(name: str, host: str, port: int, timeout_s: float = _LINGER_S) -> None:
    """Wait while the part's old socket lingers.

    Raises:
        PortError: somebody else listens there.
    """
    deadline = time.monotonic() + timeout_s
    while (problem := _try_bind(host, port)) is not None:
        if problem.errno != errno.EADDRINUSE or time.monotonic() > deadline:
            raise PortError(
                f"{name} can't listen on {host}:{port} ({problem.strerror}); stop what listens there, "
                f"or choose another port for {name} with --ports {name}=PORT (--port PORT if it runs alone)."
            ) from problem
        await asyncio.sleep(_RETRY_S)


def parse_ports(text: str, known: frozenset[str]) -> dict[str, int]:
    """Read `pubsub=8085,storage=4443`.

    Raises:
        PortError: an unknown part, or no port.
    """
    ports: dict[str, int] = {}
    for item in filter(None, text.split(",")):
        name, _, number = item.strip().partition("=")
        if name not in known:
            raise PortError(f"--ports {item}: no part is called {name!r}; the parts are {', '.join(sorted(known))}.")
        if not number.isdecimal() or not _is_port(int(number)):
            raise PortError(f"--ports {item}: {number!r} is not a port; give 0 to {_HIGHEST_PORT}.")
        ports[name] = int(number)
    return ports


def _is_port(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _HIGHEST_PORT


def _try_bind(host: str, port: int) -> OSError | None:
    """What binding would say; without SO_REUSEPORT, which would let two brokers share a port unawares."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError as error:
            return error
    return None
