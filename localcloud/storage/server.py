"""The storage server: joins the database, the contents, the API and the outbox, and starts and stops them."""

import logging
from collections.abc import Callable
from pathlib import Path

from localcloud.discovery import Discovery
from localcloud.faults import Faults
from localcloud.http import HttpServer
from localcloud.rest import RestApi
from localcloud.storage.app import StorageApp
from localcloud.storage.bucket_api import BucketApi
from localcloud.storage.contents import Contents
from localcloud.storage.database import Database, wall_clock_us
from localcloud.storage.downloads import Downloads
from localcloud.storage.object_api import ObjectApi
from localcloud.storage.outbox import Outbox, Publish
from localcloud.storage.publisher import EmulatorPublisher
from localcloud.storage.resumable import Sessions
from localcloud.storage.uploads import Uploads

log = logging.getLogger(__name__)


class StorageServer:
    """Cloud Storage's JSON API over one data directory.

    Args:
        data_dir: everything durable lives here; made if missing.
        port: 0 takes a free one.
        publish: how an event reaches the broker; without it, PUBSUB_EMULATOR_HOST says where the broker is.
        faults: rules that spoil calls on purpose.
        clock_us: microseconds since 1970; a test's own clock.
    """

    def __init__(
        self,
        *,
        data_dir: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        publish: Publish | None = None,
        faults: Faults | None = None,
        clock_us: Callable[[], int] = wall_clock_us,
    ) -> None:
        self._data_dir = data_dir
        self._clock_us = clock_us
        self._own_publisher = EmulatorPublisher() if publish is None else None
        self._contents = Contents(data_dir)
        self._database = Database(
            data_dir / "storage.sqlite3",
            clock_us=clock_us,
            on_garbage=self._contents.discard,
            on_events=lambda: self._outbox.wake(),
        )
        self._sessions = Sessions(data_dir, self._database, self._contents)
        self._outbox = Outbox(self._database, publish or self._publish_alone, clock_us=clock_us)
        downloads = Downloads(self._database, self._contents)
        discovery = Discovery.load("storage", "v1")
        uploads = Uploads(discovery, self._database, self._contents, self._sessions)
        objects = ObjectApi(self._database, self._contents, uploads, downloads)
        handlers = BucketApi(self._database).handlers() | objects.handlers()
        app = StorageApp(RestApi(discovery, handlers, faults), downloads, faults)
        self._http = HttpServer(app, host=host, port=port)

    async def start(self) -> int:
        """Open the data directory, clean up after a crash, serve. Returns the bound port.

        Raises:
            OSError: the port is taken, or the data directory can't be written.
        """
        self._data_dir.mkdir(parents=True, exist_ok=True)
        self._database.open()
        try:
            await self._clean()
            port = await self._http.start()
        except BaseException:
            await self._database.close()
            raise
        self._outbox.start()
        return port

    async def _clean(self) -> None:
        """Remove what a crash left half-done."""
        removed = await self._database.write(lambda transaction: self._contents.clean(transaction.db))
        await self._database.write(lambda transaction: self._sessions.clean(transaction.db, self._clock_us()))
        if removed:
            log.info("removed unfinished files", extra={"action": "storage_cleaned", "files": removed})

    async def stop(self, grace_s: float = 1.0) -> None:
        """Let requests in hand finish for `grace_s`, then close everything. Undelivered events wait on disk."""
        await self._http.stop(grace_s)
        await self._outbox.stop()
        if self._own_publisher is not None:
            await self._own_publisher.close()
        await self._database.close()

    async def _publish_alone(self, topic: str, data: bytes, attributes: dict[str, str]) -> str:
        assert self._own_publisher is not None
        return await self._own_publisher(topic, data, attributes)
