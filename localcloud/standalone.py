"""Runs one part alone, as a process: `python -m localcloud.<part>`.

The process locks its data directory, comes back on its old port after a restart, prints the variables that lead to
it on stdout once it answers (`STORAGE_EMULATOR_HOST=http://127.0.0.1:4443`), and stops cleanly on SIGTERM or SIGINT.
"""

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from localcloud import endpoints
from localcloud.datadir import DataDirLock
from localcloud.faults import FaultError, Faults
from localcloud.logs import log_to_stderr
from localcloud.parts import STOP_GRACE_S, Server
from localcloud.ports import PortBook, wait_until_free

EXIT_OK = 0
EXIT_CANNOT_START = 2


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """The options every part has."""
    options = argparse.ArgumentParser(
        prog=f"python -m localcloud.{name}",
        description=description,
        epilog=f"Example: python -m localcloud.{name} --data-dir ./data --port 0",
    )
    options.add_argument("--data-dir", type=Path, required=True, help="where everything durable lives; made if missing")
    options.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    options.add_argument(
        "--port", type=int, default=0, help="port; 0 takes the last start's, or a free one at the first (default: 0)"
    )
    options.add_argument("--faults", type=Path, help="JSON or TOML file of faults to rehearse")
    return options


def run(name: str, options: argparse.Namespace, build: Callable[..., Server], **arguments: Any) -> int:
    """Run the server that `build` makes until a signal; return the exit code.

    Args:
        build: takes data_dir, host, port and faults, and `arguments`.
    """
    log_to_stderr()
    try:
        faults = Faults.load(options.faults) if options.faults else Faults()
        return asyncio.run(_run(name, options, build, {"faults": faults, **arguments}))
    except (OSError, RuntimeError, FaultError) as error:
        print(f"localcloud.{name}: {error}", file=sys.stderr)  # noqa: T201  (a person reads this one)
        return EXIT_CANNOT_START


async def _run(name: str, options: argparse.Namespace, build: Callable[..., Server], arguments: dict[str, Any]) -> int:
    with DataDirLock(options.data_dir):
        book = PortBook(options.data_dir, {name: options.port})
        if book.port(name):
            await wait_until_free(name, options.host, book.port(name))
        port = book.port_or_free(name, options.host)
        server = build(data_dir=options.data_dir, host=options.host, port=port, **arguments)
        async with AsyncExitStack() as stack:
            stopping = stop_signal()
            port = await server.start()
            stack.push_async_callback(server.stop, STOP_GRACE_S)
            book.remember(name, port)
            for variable, value in endpoints.variables(name, options.host, port).items():
                print(f"{variable}={value}", flush=True)  # noqa: T201  (the ready line, for scripts)
            await stopping.wait()
    return EXIT_OK


def stop_signal() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set, from now on."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return stopping
