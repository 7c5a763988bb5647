"""Long-running operations."""

import asyncio
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from localcloud.jobs import operations as module
from localcloud.jobs.names import wall_clock
from localcloud.jobs.operations import KIND, Operations
from localcloud.jobs.store import Store
from localcloud.rest import ApiError

OWNER = "projects/p/locations/l/models/m"


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition while the loop goes on."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


async def until_done(store: Store, name: str) -> Mapping[str, Any]:
    async with asyncio.timeout(5):
        while True:
            document = store.get(KIND, name)
            assert document is not None
            if "response" in document or "error" in document:
                return document
            await asyncio.sleep(0.002)


def test_what_was_begun_is_carried_on(tmp_path: Path) -> None:
    """An operation whose service stopped in the middle of it is done by the next one, from the start."""
    tries: list[Mapping[str, Any]] = []

    async def first(task: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        tries.append(task)
        await asyncio.sleep(60)
        raise AssertionError("it was stopped before")

    async def second(task: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        tries.append(task)
        return {"model": "m"}, "UploadModelResponse"

    async def run() -> Mapping[str, Any]:
        store = Store(tmp_path)
        operations = Operations(store, wall_clock())
        operations.register("work", first)
        name = operations.begin(OWNER, "UploadModelOperationMetadata", "work", {"x": 1})["name"]
        await until(lambda: bool(tries))
        await operations.stop()
        store.close()
        store = Store(tmp_path)
        operations = Operations(store, wall_clock())
        operations.register("work", second)
        operations.recover()
        done = await until_done(store, name)
        store.close()
        return done

    done = asyncio.run(run())
    assert done["response"] == {
        "@type": "type.googleapis.com/google.cloud.aiplatform.v1.UploadModelResponse",
        "model": "m",
    }
    assert tries == [{"x": 1}, {"x": 1}]


def test_failures_become_errors(tmp_path: Path) -> None:
    """An ApiError is the operation's error with its code; a bug is INTERNAL, and says what it was."""

    async def refuse(task: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        raise ApiError(404, "NOT_FOUND", "no such thing")

    async def bug(task: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        raise ZeroDivisionError("by zero")

    async def run() -> list[Any]:
        store = Store(tmp_path)
        operations = Operations(store, wall_clock())
        operations.register("refuse", refuse)
        operations.register("bug", bug)
        names = [operations.begin(OWNER, "M", kind, {})["name"] for kind in ("refuse", "bug")]
        found = [(await until_done(store, name))["error"] for name in names]
        store.close()
        return found

    refused, broken = asyncio.run(run())
    assert refused == {"code": 5, "message": "no such thing"}
    assert broken["code"] == 13
    assert "by zero" in broken["message"]


def test_a_cancelled_operation_is_undone(tmp_path: Path) -> None:
    """Cancelling ends the work and takes back what it had begun; stopping the service does not."""
    undone: list[Mapping[str, Any]] = []
    begun: list[Mapping[str, Any]] = []

    async def wait(task: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        begun.append(task)
        await asyncio.sleep(60)
        return {}, "x"

    async def run() -> Mapping[str, Any]:
        store = Store(tmp_path)
        operations = Operations(store, wall_clock())
        operations.register("wait", wait, undone.append)
        name, other = (operations.begin(OWNER, "M", "wait", {"n": n})["name"] for n in (1, 2))
        await until(lambda: len(begun) == 2)
        operations.cancel_by_name(name)
        done = await until_done(store, name)
        await operations.stop()
        assert "error" not in (store.get(KIND, other) or {})
        store.close()
        return done

    assert asyncio.run(run())["error"]["code"] == 1
    assert undone == [{"n": 1}]


@pytest.mark.parametrize("is_cancelled", [False, True], ids=["done", "cancelled"])
def test_a_full_disk_delays_the_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_cancelled: bool) -> None:
    """What cannot be recorded is done again until it can, by the worker and at the end; it is no failure of the work."""
    monkeypatch.setattr(module, "_RECORD_AGAIN_S", 0.02)
    tries: list[int] = []

    async def run() -> Mapping[str, Any]:
        store = Store(tmp_path)
        operations = Operations(store, wall_clock())

        async def work(task: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
            tries.append(len(tries))
            if len(tries) < 3:
                raise sqlite3.OperationalError("database or disk is full")
            if is_cancelled:
                await asyncio.sleep(60)
            return {}, "x"

        operations.register("work", work)
        name = operations.begin(OWNER, "M", "work", {})["name"]
        put, left = store.put, [2]

        def refuse(kind: str, name: str, document: Mapping[str, Any], parent: str = "") -> None:
            if len(tries) >= 3 and left[0]:
                left[0] -= 1
                raise sqlite3.OperationalError("disk I/O error")
            put(kind, name, document, parent)

        monkeypatch.setattr(store, "put", refuse)
        async with asyncio.timeout(5):
            while len(tries) < 3:
                await asyncio.sleep(0.002)
        if is_cancelled:
            operations.cancel_by_name(name)
        done = await until_done(store, name)
        assert left == [0]
        store.close()
        return done

    done = asyncio.run(run())
    assert ("error" in done) == is_cancelled
    assert not is_cancelled or done["error"]["code"] == 1
