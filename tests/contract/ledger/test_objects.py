"""Both object stores, the tests' in memory and Cloud Storage's client on the local server, keep one contract."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from localcloud.storage.server import StorageServer
from tests.support.world import MemoryObjects
from workers.errors import Conflict, TransientError
from workers.objects import ABSENT, Objects, StorageObjects
from workers.storage_rest import StorageRest


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def drop(_topic: str, _data: bytes, _attributes: dict[str, str]) -> str:
        return "unused"

    folder: Path = tmp_path_factory.mktemp("storage")
    server = StorageServer(data_dir=folder, publish=drop)
    port = asyncio.run_coroutine_threadsafe(server.start(), loop).result(20)
    yield f"http://127.0.0.1:{port}"
    asyncio.run_coroutine_threadsafe(server.stop(), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@pytest.fixture(params=["memory", "storage"])
def objects(request: pytest.FixtureRequest) -> Iterator[Objects]:
    if request.param == "memory":
        yield MemoryObjects()
        return
    address = request.getfixturevalue("address")
    client = storage.Client("p", credentials=AnonymousCredentials(), client_options={"api_endpoint": address})
    name = f"bucket-{abs(hash(request.node.name))}"
    client.create_bucket(name)
    client.close()
    rest = StorageRest(address)
    yield StorageObjects(rest, name)
    rest.close()


def test_create_if_absent_then_replace_by_generation(objects: Objects) -> None:
    """A write needs the generation that was read; any other is refused and changes nothing."""
    assert objects.read("runs/r/train.json") is None
    first = objects.write("runs/r/train.json", b"one", if_generation=ABSENT)
    with pytest.raises(Conflict):
        objects.write("runs/r/train.json", b"other", if_generation=ABSENT)
    second = objects.write("runs/r/train.json", b"two", if_generation=first)
    assert second > first
    with pytest.raises(Conflict):
        objects.write("runs/r/train.json", b"late", if_generation=first)
    versioned = objects.read("runs/r/train.json")
    assert versioned == (b"two", second)


def test_an_empty_object_is_an_object(objects: Objects) -> None:
    """Markers have no content."""
    generation = objects.write("inflight/train/r", b"", if_generation=ABSENT)
    assert objects.read("inflight/train/r") == (b"", generation)


def test_deleting_twice_is_as_good_as_once(objects: Objects) -> None:
    """Whoever cleans up second finds nothing to do."""
    objects.write("x", b"1", if_generation=ABSENT)
    objects.delete("x")
    objects.delete("x")
    assert objects.read("x") is None
    objects.write("x", b"2", if_generation=ABSENT)


def test_list_names_what_is_under_the_prefix(objects: Objects) -> None:
    """The sweep sees every marker of its stage, and no other's."""
    for name in ("inflight/a/1", "inflight/a/2", "inflight/ab/3", "other"):
        objects.write(name, b"", if_generation=ABSENT)
    assert list(objects.list("inflight/a/")) == ["inflight/a/1", "inflight/a/2"]


def test_of_sixteen_racing_claims_one_wins(objects: Objects) -> None:
    """The one primitive under every promise holds under a race, ten times over."""
    if isinstance(objects, MemoryObjects):
        pytest.skip("the store in memory is used by one thread at a time")
    for round_ in range(10):

        def claim(number: int, name: str = f"race-{round_}") -> bool:
            try:
                objects.write(name, str(number).encode(), if_generation=ABSENT)
            except Conflict:
                return False
            return True

        with ThreadPoolExecutor(16) as pool:
            assert sum(pool.map(claim, range(16))) == 1


def test_a_bucket_that_is_not_there_is_said(address: str) -> None:
    """It may be made later, so a worker waits for it; a person reads which setting to mend."""
    rest = StorageRest(address)
    objects = StorageObjects(rest, "nope")
    try:
        with pytest.raises(TransientError, match="gs://nope/runs/: there is no such bucket; mend BATON_BUCKET"):
            list(objects.list("runs/"))
        with pytest.raises(TransientError, match="there is no such bucket"):
            objects.write("x", b"", if_generation=ABSENT)
    finally:
        rest.close()
