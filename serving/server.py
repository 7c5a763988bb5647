"""Start and end the HTTP server: listen at once, load the model beside it, leave on SIGTERM."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable

import uvicorn

from serving import logs
from serving.app import INTERPRETERS, Service, build_app
from serving.errors import StartError
from serving.model import LiteRtModel, load
from serving.settings import Settings

_GRACE_S = 5  # for answers under way; Vertex AI and Kubernetes wait longer before they kill
_KEEP_ALIVE_S = 75  # longer than a proxy in front keeps idle connections (60 s is common), so that it closes first


def listen(settings: Settings) -> socket.socket:
    """Bind the address.

    Raises:
        StartError: it is taken, or not this machine's.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio switches Nagle's algorithm off only where the protocol is named; with it on, each answer took 44 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise StartError(
            "cannot listen",
            value=f"{settings.host}:{settings.port}",
            place="AIP_HTTP_PORT, BATON_SERVING_HOST",
            mend=f"free that address or choose another ({error.strerror})",
        ) from error
    return listener


class PredictionServer:
    """One server on one address.

    Args:
        listener: a bound socket; it is closed when the server ends.
        load_model: runs in a thread of its own while the server already answers 503.
    """

    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        load_model: Callable[[], LiteRtModel] | None = None,
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._load_model = load_model or (lambda: load(settings.storage_uri, interpreters=INTERPRETERS))
        self._service = Service(settings)
        self._failure: Exception | None = None
        self._server = _AnnouncingServer(
            uvicorn.Config(
                build_app(settings, self._service),
                loop="asyncio",
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_GRACE_S,
            ),
            self._announce,
        )

    def request_exit(self) -> None:
        """Finish the answers under way, then end. Safe in a signal handler, also before `run`."""
        self._server.should_exit = True

    def run(self) -> None:
        """Serve until SIGTERM, SIGINT or `request_exit`.

        Raises:
            StartError: the model cannot be served; the server has ended.
        """
        # A daemon: a bucket that does not answer must not hold up the end of the process.
        threading.Thread(target=self._load, name="load-model", daemon=True).start()
        try:
            asyncio.run(self._server.serve(sockets=[self._listener]))
        finally:
            self._service.close()
        if self._failure:
            raise self._failure

    def _load(self) -> None:
        began_at = time.monotonic()
        try:
            self._service.model = self._load_model()
        except Exception as error:  # noqa: BLE001  raised again by `run`, in the main thread
            self._failure = error
            self.request_exit()
            return
        duration_s = round(time.monotonic() - began_at, 3)
        logs.info("model.loaded", storage_uri=self._settings.storage_uri, duration_s=duration_s)

    def _announce(self) -> None:
        host, port = self._listener.getsockname()[:2]
        logs.info(
            "serving.listening",
            host=host,
            port=port,
            health_route=self._settings.health_route,
            predict_route=self._settings.predict_route,
        )


class _AnnouncingServer(uvicorn.Server):
    """Says so once connections are accepted, and not before."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._announce()
