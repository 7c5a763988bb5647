"""The fleet of model servers keeps in step with its records, also while the disk takes nothing."""

import asyncio
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from localcloud.jobs.fleet import KIND, RUN_KIND, Fleet
from localcloud.jobs.names import wall_clock
from localcloud.jobs.store import Store
from localcloud.jobs.supervisor import Supervisor

KEY = "projects/p/locations/l/endpoints/e/deployedModels/1"
SERVER = """
import http.server, os
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(os.environ["AIP_HTTP_PORT"])), Health).serve_forever()
"""


class FullDisk:
    """Refuses what is committed while `is_full`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_full = False
        commit = Store._commit

        def refuse(store: Store, pending: Any) -> None:
            if self.is_full and pending:
                raise sqlite3.OperationalError("database or disk is full")
            commit(store, pending)

        monkeypatch.setattr(Store, "_commit", refuse)


def in_fleet(folder: Path, body: Callable[[Fleet, Store, Supervisor], Awaitable[None]]) -> None:
    async def run() -> None:
        (folder / "runs").mkdir()
        store = Store(folder)
        supervisor = Supervisor(store, folder / "runs", wall_clock(), max_parallel=1, kill_grace_s=0.1)
        fleet = Fleet(store, supervisor, wall_clock())
        try:
            await body(fleet, store, supervisor)
        finally:
            await fleet.stop()
            await supervisor.stop(0.1)
            store.close()

    asyncio.run(run())


def spec(folder: Path) -> dict[str, Any]:
    routes = {"healthRoute": "/health", "predictRoute": "/predict"}
    argv = [sys.executable, "-S", "-c", SERVER]
    return {"argv": argv, "env": {}, "directory": "", "log": str(folder / "server.log"), "refusal": "", **routes}


def test_a_server_that_could_not_be_removed_is_removed_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An undeployment that a full disk refused can be made again; no process is left that nobody knows of."""
    disk = FullDisk(monkeypatch)

    async def body(fleet: Fleet, store: Store, supervisor: Supervisor) -> None:
        fleet.ensure(KEY, spec(tmp_path))
        await fleet.wait_ready(KEY, 10)
        run_id = (store.get(KIND, KEY) or {})["runId"]
        disk.is_full = True
        with pytest.raises(sqlite3.OperationalError):
            fleet.remove(KEY)
        disk.is_full = False
        assert store.get(KIND, KEY) is not None
        fleet.remove(KEY)
        assert store.get(KIND, KEY) is None
        async with asyncio.timeout(10):
            while supervisor.get(run_id) is not None:
                await asyncio.sleep(0.005)
        assert not [run for run in store.documents("run") if run["run_id"].startswith(RUN_KIND)]

    in_fleet(tmp_path, body)


def test_a_server_that_could_not_be_recorded_is_started_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployment that a full disk refused begins anew when it is asked for again."""
    disk = FullDisk(monkeypatch)

    async def body(fleet: Fleet, store: Store, _supervisor: Supervisor) -> None:
        disk.is_full = True
        with pytest.raises(sqlite3.OperationalError):
            fleet.ensure(KEY, spec(tmp_path))
        disk.is_full = False
        fleet.ensure(KEY, spec(tmp_path))
        await fleet.wait_ready(KEY, 10)
        assert len(store.documents(KIND)) == 1

    in_fleet(tmp_path, body)
