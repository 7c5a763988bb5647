"""Ports, locks, endpoints: what a local cloud's process keeps and refuses."""

import asyncio
import json
import os
import socket
from pathlib import Path

import pytest

from localcloud import endpoints
from localcloud.datadir import DataDirError, DataDirLock
from localcloud.files import write_atomically
from localcloud.ports import PortBook, PortError, parse_ports, wait_until_free


def test_ports_are_remembered(tmp_path: Path) -> None:
    """The first start's port is the next start's; one given by hand goes first and is kept; 0 asks for none."""
    PortBook(tmp_path).remember("storage", 4443)
    assert PortBook(tmp_path).port("storage") == 4443
    assert PortBook(tmp_path, {"storage": 0}).port("storage") == 4443
    assert PortBook(tmp_path, {"storage": 5555}).port("storage") == 5555
    assert PortBook(tmp_path).port("pubsub") == 0
    assert PortBook(tmp_path).port_or_free("storage", "127.0.0.1") == 4443
    assert 1024 < PortBook(tmp_path).port_or_free("pubsub", "127.0.0.1") < 32768, "outgoing connections could take it"


def test_no_two_parts_get_the_same_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chosen before any of them listens, and beside those that were asked for or remembered, all differ."""
    monkeypatch.setattr("localcloud.ports._CHOSEN_FROM", range(20_000, 20_006))
    monkeypatch.setattr("localcloud.ports._try_bind", lambda host, port: None)
    PortBook(tmp_path).remember("kept", 20_000)
    book = PortBook(tmp_path, {"asked": 20_001})
    names = ["kept", "asked", "one", "two", "three", "four"]
    assert {book.port_or_free(name, "127.0.0.1") for name in names} == set(range(20_000, 20_006))
    assert book.port_or_free("one too many", "127.0.0.1") == 0


def test_two_port_books_keep_each_others_ports(tmp_path: Path) -> None:
    """A part with two doors keeps a book for each; neither forgets the other's."""
    one, other = PortBook(tmp_path), PortBook(tmp_path)
    one.remember("bigquery", 1)
    other.remember("bigquery-storage", 2)
    one.remember("bigquery", 3)
    assert json.loads((tmp_path / "ports.json").read_text()) == {"bigquery": 3, "bigquery-storage": 2}


@pytest.mark.parametrize("text", ["not json", "[]", '{"storage": "4443"}', '{"storage": 70000}', '{"storage": true}'])
def test_a_broken_port_book_is_named(tmp_path: Path, text: str) -> None:
    """A ports.json that can't be used is refused with its path and the mend."""
    (tmp_path / "ports.json").write_text(text)
    with pytest.raises(PortError, match=r"ports\.json .*delete it"):
        PortBook(tmp_path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nothing=1", "no part"),
        ("storage", "not a port"),
        ("storage=65536", "not a port"),
        ("storage=-1", "not a port"),
    ],
)
def test_bad_port_options_are_refused(text: str, problem: str) -> None:
    """--ports with an unknown part or no port names what is wrong."""
    with pytest.raises(PortError, match=problem):
        parse_ports(text, endpoints.PORT_NAMES)


def test_good_port_options_are_read() -> None:
    """--ports takes several, with spaces, or none."""
    assert parse_ports("pubsub=8085, storage=0", endpoints.PORT_NAMES) == {"pubsub": 8085, "storage": 0}
    assert parse_ports("", endpoints.PORT_NAMES) == {}


def test_a_port_that_is_let_go_is_waited_for() -> None:
    """While the old listener lingers the start waits, and goes on as soon as it is gone."""
    holder = socket.create_server(("127.0.0.1", 0))
    port = holder.getsockname()[1]

    async def let_go() -> None:
        waiting = asyncio.create_task(wait_until_free("storage", "127.0.0.1", port, timeout_s=20))
        await asyncio.sleep(0)
        assert not waiting.done()
        holder.close()
        await waiting

    asyncio.run(let_go())


def test_a_port_that_is_held_is_named() -> None:
    """A port that somebody keeps is refused with part, port and mend."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(PortError, match=rf"storage can't listen on 127\.0\.0\.1:{port}.*storage=PORT"):
            asyncio.run(wait_until_free("storage", "127.0.0.1", port, timeout_s=0))


def test_a_data_directory_is_held_by_one(tmp_path: Path) -> None:
    """The second one is refused with the holder's process id; after the first it may."""
    with DataDirLock(tmp_path):
        with pytest.raises(DataDirError, match=rf"in use by process {os.getpid()}"), DataDirLock(tmp_path):
            pass
        assert (tmp_path / "lock").read_text() == str(os.getpid())
    with DataDirLock(tmp_path):
        pass


def test_a_dead_holders_lock_is_no_obstacle(tmp_path: Path) -> None:
    """A lock file that a crash left behind does not stop the next start."""
    (tmp_path / "lock").write_text("99999999")
    with DataDirLock(tmp_path):
        assert (tmp_path / "lock").read_text() == str(os.getpid())


def test_a_data_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A --data-dir below a file is refused with its name."""
    (tmp_path / "file").write_text("")
    with pytest.raises(DataDirError, match="file/sub can't be used"), DataDirLock(tmp_path / "file" / "sub"):
        pass


def test_endpoints_lead_to_loopback(tmp_path: Path) -> None:
    """A door bound to every address is reached by loopback; IPv6 addresses are bracketed."""
    assert endpoints.variables("storage", "0.0.0.0", 1) == {"STORAGE_EMULATOR_HOST": "http://127.0.0.1:1"}
    assert endpoints.variables("pubsub", "::1", 2) == {"PUBSUB_EMULATOR_HOST": "[::1]:2"}
    path = endpoints.write(tmp_path, {"A": "b"})
    assert json.loads(path.read_text()) == {"A": "b"}


def test_clients_are_kept_from_gcloud_and_proxies(tmp_path: Path) -> None:
    """CLOUDSDK_CONFIG is an empty folder, and what a proxy was not for already stays so."""
    found = endpoints.common("my-project", tmp_path, {"NO_PROXY": "example.com"})
    assert list(Path(found["CLOUDSDK_CONFIG"]).iterdir()) == []
    assert found["GOOGLE_CLOUD_PROJECT"] == "my-project"
    assert found["NO_PROXY"] == found["no_proxy"] == "example.com,127.0.0.1,localhost,::1"


def test_an_interrupted_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails midway leaves the old text and no litter."""
    path = tmp_path / "endpoints.json"
    write_atomically(path, "old")

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
