"""`python -m localcloud.pubsub`: the broker alone, in the foreground, until SIGINT or SIGTERM."""

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

from localcloud.logs import log_to_stderr
from localcloud.pubsub.server import PubSubServer

EXIT_CANNOT_START = 2

_EPILOG = """examples:
  python -m localcloud.pubsub --data-dir .baton/pubsub
  python -m localcloud.pubsub --port 8085 --data-dir /tmp/pubsub --durability memory
then, in another shell:
  export PUBSUB_EMULATOR_HOST=127.0.0.1:8085
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(
        prog="python -m localcloud.pubsub",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("--host", default="127.0.0.1", help="address to bind (default: %(default)s)")
    found.add_argument(
        "--port", type=int, default=0, help="port; 0 picks a free one and keeps it (default: %(default)s)"
    )
    found.add_argument("--data-dir", type=Path, required=True, help="folder which keeps the messages")
    found.add_argument(
        "--durability",
        choices=("full", "normal", "memory"),
        default="full",
        help="full: a publish is answered once the disk has it; normal: survives a killed process but maybe not a "
        "power cut; memory: keeps nothing (default: %(default)s)",
    )
    found.add_argument(
        "--unkind",
        type=int,
        metavar="SEED",
        help="deliver twice, out of order and late, lose acks and break streams: all that the cloud may do, at random",
    )
    found.add_argument(
        "--metrics-port", type=int, help="serve Prometheus metrics at /metrics on this port; 0 picks one"
    )
    return found


async def serve(arguments: argparse.Namespace) -> int:
    """Run until a signal; answers the exit code."""
    server = PubSubServer(
        data_dir=arguments.data_dir,
        host=arguments.host,
        port=arguments.port,
        durability=arguments.durability,
        unkind_seed=arguments.unkind,
        metrics_port=arguments.metrics_port,
    )
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    try:
        port = await server.start()
    except RuntimeError as error:
        logging.getLogger(__name__).error("cannot start", extra={"action": "cannot_start", "error": str(error)})
        return EXIT_CANNOT_START
    print(f"PUBSUB_EMULATOR_HOST={arguments.host}:{port}", flush=True)  # noqa: T201 - the answer, for scripts
    if arguments.metrics_port is not None:
        print(f"PUBSUB_METRICS=http://{arguments.host}:{server.metrics_port}/metrics", flush=True)  # noqa: T201
    await stopped.wait()
    await server.stop()
    return 0


def main() -> None:
    """Set up logging and serve."""
    arguments = parser().parse_args()
    log_to_stderr()
    sys.exit(asyncio.run(serve(arguments)))


if __name__ == "__main__":
    main()
