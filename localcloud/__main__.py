"""`python -m localcloud`: Pub/Sub, Cloud Storage, BigQuery, Dataflow, Vertex AI and a metadata server on this machine."""

import argparse
import asyncio
import logging
import sys
from pathlib import Path

from localcloud import endpoints
from localcloud.browsers import is_loopback
from localcloud.cloud import LocalCloud, PartError
from localcloud.faults import FaultError, Faults
from localcloud.logs import log_to_stderr
from localcloud.parts import PARTS
from localcloud.ports import PortError, parse_ports
from localcloud.standalone import EXIT_CANNOT_START, EXIT_OK, stop_signal

_EPILOG = """examples:
  python -m localcloud --data-dir .baton --images deploy/images.toml
  python -m localcloud --data-dir .baton --ports pubsub=8085,storage=4443 --parts pubsub,storage
It prints one line once everything answers; the variables that lead clients here are in DATA_DIR/endpoints.json then.
"""

log = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; return the exit code."""
    options = _parser().parse_args(arguments)
    log_to_stderr()
    try:
        cloud = LocalCloud(
            data_dir=options.data_dir,
            host=options.host,
            project=options.project,
            images=options.images,
            ports=parse_ports(options.ports, endpoints.PORT_NAMES),
            parts=_parse_parts(options.parts),
            faults=Faults.load(options.faults) if options.faults else None,
        )
        return asyncio.run(_run(cloud, options))
    except (OSError, PartError, FaultError) as error:
        print(f"localcloud: {error}", file=sys.stderr)  # noqa: T201  (a person reads this one)
        return EXIT_CANNOT_START


async def _run(cloud: LocalCloud, options: argparse.Namespace) -> int:
    stopping = stop_signal()
    if not is_loopback(options.host):
        log.warning("reachable from outside", extra={"action": "not_loopback", "host": options.host})
    starting = asyncio.create_task(cloud.start())
    stopped = asyncio.create_task(stopping.wait())
    await asyncio.wait((starting, stopped), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return EXIT_OK
    await starting
    try:
        print(f"local cloud ready: {options.data_dir / endpoints.FILE}", flush=True)  # noqa: T201  (the ready line)
        await stopped
    finally:
        await cloud.stop()
    return EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m localcloud",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data-dir", type=Path, required=True, help="where everything durable lives; made if missing")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--images", type=Path, help="TOML table: which command stands for which container image")
    parser.add_argument("--project", default="baton-local", help="the project's id (default: %(default)s)")
    parser.add_argument(
        "--ports",
        default="",
        help=f"NAME=PORT,...; names: {', '.join(sorted(endpoints.PORT_NAMES))} (default: free ones)",
    )
    parser.add_argument("--parts", default=",".join(PARTS), help="which parts to start (default: %(default)s)")
    parser.add_argument("--faults", type=Path, help="JSON or TOML file of faults to rehearse")
    return parser


def _parse_parts(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in PARTS:
            raise PortError(f"--parts {text}: no part is called {name!r}; the parts are {', '.join(PARTS)}.")
    return names


if __name__ == "__main__":
    sys.exit(main())
