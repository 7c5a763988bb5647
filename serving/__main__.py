"""`python -m serving`: join settings, socket and server, and turn errors into a last log line and an exit code."""

import os
import signal
import sys
from types import FrameType

from serving import logs
from serving.errors import StartError
from serving.server import PredictionServer, listen
from serving.settings import parse

EXIT_ENDED = 0
EXIT_CANNOT_SERVE = 2


def main() -> int:
    """Serve until a signal; returns the exit code."""
    logs.configure()
    try:
        settings = parse(sys.argv[1:], os.environ)
        server = PredictionServer(settings, listen(settings))
        _end_on_signals(server)
        server.run()
    except StartError as error:
        logs.error("serving.refused", error=str(error), value=error.value, place=error.place, mend=error.mend)
        return EXIT_CANNOT_SERVE
    logs.info("serving.ended")
    return EXIT_ENDED


def _end_on_signals(server: PredictionServer) -> None:
    """End cleanly, with exit code 0.

    uvicorn has handlers of its own while it runs, and afterwards raises the signal once more for those set before it:
    these here then have nothing left to do. A signal that comes earlier is not lost either.
    """

    def end(number: int, frame: FrameType | None) -> None:
        server.request_exit()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)


if __name__ == "__main__":
    sys.exit(main())
