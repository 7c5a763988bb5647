"""Uploads: pieces in, one file out; ranges that do not fit are refused."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from localcloud.bigquery.errors import Invalid, NotFound
from localcloud.bigquery.uploads import Progress, Uploads


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def take(uploads: Uploads, session: str, content_range: str, *parts: bytes) -> Progress:
    return asyncio.run(uploads.resume(session, content_range, pieces(*parts)))


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path / "incoming")


@pytest.fixture
def session(uploads: Uploads) -> str:
    return asyncio.run(uploads.start({"project": "p", "body": {}}))


def test_pieces_are_put_together(uploads: Uploads, session: str, tmp_path: Path) -> None:
    """In order, over several requests; complete when the total is reached."""
    assert take(uploads, session, "bytes 0-3/*", b"ab", b"cd").received == 4
    assert not take(uploads, session, "bytes */*").is_complete
    done = take(uploads, session, "bytes 4-5/6", b"ef")
    assert (done.is_complete, done.received) == (True, 6)
    assert (tmp_path / "incoming" / uploads.finish(session)).read_bytes() == b"abcdef"


def test_a_piece_sent_again_is_not_doubled(uploads: Uploads, session: str, tmp_path: Path) -> None:
    """A client that missed an answer sends the piece again; its bytes land where they belong."""
    take(uploads, session, "bytes 0-3/*", b"abcd")
    take(uploads, session, "bytes 0-3/*", b"abcd")
    assert take(uploads, session, "bytes 2-5/6", b"cdef").is_complete
    assert (tmp_path / "incoming" / uploads.finish(session)).read_bytes() == b"abcdef"


def test_a_gap_is_refused(uploads: Uploads, session: str) -> None:
    """A piece that begins past what was received says where to go on."""
    with pytest.raises(Invalid, match="past the 0 bytes received"):
        take(uploads, session, "bytes 4-5/6", b"ef")


def test_a_cut_piece_counts_as_far_as_it_came(uploads: Uploads, session: str) -> None:
    """Fewer bytes than the range says: not complete, and the next answer tells the offset."""
    assert not take(uploads, session, "bytes 0-9/10", b"abc").is_complete
    assert take(uploads, session, "bytes */10").received == 3


def test_an_empty_file_is_complete_at_once(uploads: Uploads, session: str) -> None:
    """`bytes */0` ends a session without bytes."""
    assert take(uploads, session, "bytes */0").is_complete


def test_a_last_piece_sent_twice_stays_complete(uploads: Uploads, session: str) -> None:
    """After its bytes went to the job, the same piece again means the same job."""
    take(uploads, session, "bytes 0-1/2", b"ab")
    uploads.finish(session)
    assert take(uploads, session, "bytes 0-1/2", b"ab").is_complete


@pytest.mark.parametrize("value", ["0-1/2", "bytes x", "bytes -1-2/3", "items 0-1/2"])
def test_odd_ranges_are_refused(uploads: Uploads, session: str, value: str) -> None:
    """A Content-Range that is none is told."""
    with pytest.raises(Invalid, match="Content-Range"):
        take(uploads, session, value, b"x")


@pytest.mark.parametrize("name", ["", "0" * 32, "../../etc/passwd", "x" * 32])
def test_unknown_sessions_are_not_found(uploads: Uploads, name: str) -> None:
    """No path is made of an id that is not ours."""
    with pytest.raises(NotFound, match="upload"):
        take(uploads, name, "bytes 0-1/2", b"ab")


def test_a_start_removes_what_belongs_to_nothing(uploads: Uploads, session: str, tmp_path: Path) -> None:
    """Files of dead jobs go; those of jobs to be run, and of sessions that may go on, stay."""
    incoming = tmp_path / "incoming"
    for name in ("t_dead", "t_owned", f"t_{session}"):
        (incoming / name).write_bytes(b"x")
    uploads.sweep({"t_owned"})
    assert {one.name for one in incoming.iterdir()} == {
        "t_owned",
        f"t_{session}",
        f"{session}.upload",
        f"{session}.part",
    }


@pytest.mark.parametrize("end", [b"\r\n", b"", b"--x\r\n", b"\n\n"])
def test_multipart_data_is_taken_to_the_byte(uploads: Uploads, tmp_path: Path, end: bytes) -> None:
    """Whatever the data ends with, the line break before the boundary is not part of it."""
    data = b"a,b\r\n1,2" + end
    body = (
        b'--=B=\r\ncontent-type: application/json\r\n\r\n{"k": 1}\r\n--=B=\r\ncontent-type: */*\r\n\r\n' + data
    ) + b"\r\n--=B=--"
    metadata, name = asyncio.run(uploads.multipart(pieces(body), 'multipart/related; boundary="=B="'))
    assert metadata == {"k": 1}
    assert (tmp_path / "incoming" / name).read_bytes() == data


@pytest.mark.parametrize(
    ("content_type", "body"),
    [("text/plain", b"x"), ("multipart/related", b"x"), ('multipart/related; boundary="B"', b"no parts")],
)
def test_broken_multipart_is_refused(uploads: Uploads, content_type: str, body: bytes) -> None:
    """A request that is no multipart upload is told what is missing."""
    with pytest.raises(Invalid, match="multipart"):
        asyncio.run(uploads.multipart(pieces(body), content_type))
