"""Cloud Storage's protocol where the stock client hides it: resumable sessions and other uploads."""

import base64
import gzip
import hashlib
import json
import os
import socket

import pytest

from tests.contract.storage.wire import STEP_BYTES, Wire
from tests.support.waiting import wait_until


def test_a_session_tells_what_it_has_and_goes_on(wire: Wire) -> None:
    """Chunks add up; `bytes */*` asks what is there; the last chunk makes the object, once."""
    data = os.urandom(2 * STEP_BYTES + 5)
    session = wire.begin("data")
    asked = wire.put(session, b"", "bytes */*")
    assert asked.status == 308
    assert "range" not in asked.headers
    first = wire.put(session, data[:STEP_BYTES], f"bytes 0-{STEP_BYTES - 1}/*")
    assert (first.status, first.headers["range"]) == (308, f"bytes=0-{STEP_BYTES - 1}")
    assert wire.download("data").status == 404
    second = wire.put(session, data[STEP_BYTES:], f"bytes {STEP_BYTES}-{len(data) - 1}/{len(data)}")
    assert (second.status, second.json["size"]) == (200, str(len(data)))
    again = wire.put(session, b"", "bytes */*")
    assert again.json["generation"] == second.json["generation"]
    assert wire.download("data").body == data


def test_a_chunk_counts_in_whole_steps(wire: Wire) -> None:
    """Of a chunk that is no multiple of 256 KiB only whole steps are kept; the client must go on from there."""
    data = os.urandom(2 * STEP_BYTES)
    session = wire.begin("data")
    first = wire.put(session, data[: STEP_BYTES + 10], f"bytes 0-{STEP_BYTES + 9}/*")
    assert first.headers["range"] == f"bytes=0-{STEP_BYTES - 1}"
    last = wire.put(session, data[STEP_BYTES:], f"bytes {STEP_BYTES}-{len(data) - 1}/{len(data)}")
    assert last.status == 200
    assert wire.download("data").body == data


def test_a_chunk_that_was_sent_twice_counts_once(wire: Wire) -> None:
    """Bytes that the session has already are passed over, so a chunk whose answer got lost may be repeated."""
    data = os.urandom(3 * STEP_BYTES)
    session = wire.begin("data")
    for _ in range(2):
        answer = wire.put(session, data[: 2 * STEP_BYTES], f"bytes 0-{2 * STEP_BYTES - 1}/*")
        assert answer.headers["range"] == f"bytes=0-{2 * STEP_BYTES - 1}"
    last = wire.put(session, data[STEP_BYTES:], f"bytes {STEP_BYTES}-{len(data) - 1}/{len(data)}")
    assert last.status == 200
    assert wire.download("data").body == data


def test_chunks_that_do_not_fit_are_refused(wire: Wire) -> None:
    """A gap, a chunk below 256 KiB in the middle, a length that lies and a range that can't be read are refused."""
    session = wire.begin("data")
    gap = wire.put(session, b"x" * STEP_BYTES, f"bytes {STEP_BYTES}-{2 * STEP_BYTES - 1}/*")
    assert gap.status == 503
    assert "exceeds already uploaded size of 0" in gap.message
    small = wire.put(session, b"x" * 10, "bytes 0-9/*")
    assert small.status == 400
    assert str(STEP_BYTES) in small.message
    for lie in ("bytes 0-4/5", "bytes 0-19/20"):
        assert wire.put(session, b"x" * 10, lie).status == 400
    for unreadable in ("bytes 9-0/10", "bytes 0-10/5", "0-9/10", "bytes a-b/c"):
        assert wire.put(session, b"x" * 10, unreadable).status == 400
    assert wire.put(session, b"x" * 10, "bytes 0-9/10").status == 200


def test_a_session_of_unknown_length_ends_with_its_total(wire: Wire) -> None:
    """`bytes */TOTAL` finishes an upload whose bytes are all there; also one of nothing."""
    session = wire.begin("data")
    wire.put(session, b"x" * STEP_BYTES, f"bytes 0-{STEP_BYTES - 1}/*")
    assert wire.put(session, b"", f"bytes */{STEP_BYTES + 1}").status == 308
    assert wire.put(session, b"", f"bytes */{STEP_BYTES}").status == 200
    assert wire.put(wire.begin("empty"), b"", "bytes */0").status == 200
    assert wire.download("empty").body == b""


def test_a_session_takes_everything_in_one_put(wire: Wire) -> None:
    """A PUT without Content-Range is the whole object."""
    session = wire.begin("data", {"contentType": "text/x-test"})
    done = wire.send("PUT", session, b"whole")
    assert (done.status, done.json["contentType"]) == (200, "text/x-test")


def test_a_sessions_precondition_is_checked_when_it_ends(wire: Wire) -> None:
    """Somebody who creates the object meanwhile wins; the session is refused and gone."""
    session = wire.begin("data", query="&ifGenerationMatch=0")
    wire.upload("data", b"first")
    assert wire.send("PUT", session, b"second").status == 412
    assert wire.download("data").body == b"first"
    assert wire.put(session, b"", "bytes */*").status == 404


def test_a_cancelled_session_is_gone(wire: Wire) -> None:
    """DELETE answers 499 and forgets the session; an unknown one is 404."""
    session = wire.begin("data")
    assert wire.send("DELETE", session).status == 499
    assert wire.put(session, b"x", "bytes 0-0/1").status == 404
    assert wire.put(session.split("upload_id=")[0] + "upload_id=..%2F..%2Fstorage.sqlite3", b"x", "").status == 404


def test_a_session_refuses_bytes_that_differ_from_their_checksum(wire: Wire) -> None:
    """md5Hash given at the beginning is held against the bytes at the end."""
    wrong = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    session = wire.begin("data", {"md5Hash": wrong})
    assert wire.send("PUT", session, b"these").status == 400
    assert wire.download("data").status == 404


def test_a_connection_cut_in_a_chunk_keeps_what_came(wire: Wire, our_port: int) -> None:
    """The whole steps that arrived before the cut count, and the client goes on from there."""
    data = os.urandom(4 * STEP_BYTES)
    session = wire.begin("data")
    head = (
        f"PUT {session} HTTP/1.1\r\nHost: localhost\r\nContent-Range: bytes 0-{len(data) - 1}/{len(data)}\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", our_port)) as raw:
        raw.sendall(head.encode() + data[: 3 * STEP_BYTES + 1000])
    expected = f"bytes=0-{3 * STEP_BYTES - 1}"
    wait_until(lambda: wire.put(session, b"", "bytes */*").headers.get("range") == expected, what="three steps kept")
    last = wire.put(session, data[3 * STEP_BYTES :], f"bytes {3 * STEP_BYTES}-{len(data) - 1}/{len(data)}")
    assert last.status == 200
    assert wire.download("data").body == data


def test_a_body_packed_for_the_way_is_unpacked(wire: Wire) -> None:
    """`Content-Encoding: gzip` on the request is undone; the object is what was meant."""
    text = b"text " * 1000
    assert wire.upload("data", gzip.compress(text), content_encoding="gzip").status == 200
    assert wire.download("data").body == text
    assert wire.upload("data", b"not gzip", content_encoding="gzip").status == 400
    assert wire.upload("data", gzip.compress(text)[:-8], content_encoding="gzip").status == 400


def test_an_upload_cut_in_the_middle_is_never_seen(wire: Wire, our_port: int) -> None:
    """A half-sent upload leaves nothing: no object, and the old one stays."""
    wire.upload("data", b"old")
    for target in ("data", "new"):
        head = (
            f"POST /upload/storage/v1/b/{wire.bucket}/o?uploadType=media&name={target} HTTP/1.1\r\n"
            "Host: localhost\r\nContent-Length: 3000000\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", our_port)) as raw:
            raw.sendall(head.encode() + b"x" * 2_000_000)
    assert wire.download("data").body == b"old"
    assert wire.download("new").status == 404


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/related", b"--b\r\n\r\n{}\r\n--b\r\n\r\nx\r\n--b--"),
        ("multipart/related; boundary=b", b""),
        ("multipart/related; boundary=b", b"--b\r\n\r\n{}\r\n--b--"),
        ("multipart/related; boundary=b", b"--b\r\n\r\nnot json\r\n--b\r\n\r\nx\r\n--b--"),
        ("multipart/related; boundary=b", b'--b\r\n\r\n["list"]\r\n--b\r\n\r\nx\r\n--b--'),
        ("multipart/related; boundary=b", b"--b\r\n\r\n{}\r\n--b\r\n\r\ncut shor"),
    ],
)
def test_malformed_multipart_is_refused(wire: Wire, content_type: str, body: bytes) -> None:
    """A multipart body that is not two parts, or was cut, is refused with 400."""
    url = f"/upload/storage/v1/b/{wire.bucket}/o?uploadType=multipart&name=data"
    assert wire.send("POST", url, body, content_type=content_type).status == 400
    assert wire.download("data").status == 404


def test_multipart_media_may_hold_anything(wire: Wire) -> None:
    """Line ends, dashes and near-boundaries in the media come back untouched."""
    media = b"\r\n--b-\r\n--\r\n" + b"--b" + b"x" * 3000 + b"\r\n--"
    parts = (b'Content-Type: application/json\r\n\r\n{"name": "data"}', b"Content-Type: text/x\r\n\r\n" + media)
    body = b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"
    url = f"/upload/storage/v1/b/{wire.bucket}/o?uploadType=multipart"
    made = wire.send("POST", url, body, content_type='multipart/related; boundary="b"')
    assert made.json["contentType"] == "text/x"
    assert wire.download("data").body == media


def test_fields_the_cloud_does_not_know_are_refused(wire: Wire) -> None:
    """An unknown field or parameter is refused with 400 and its name, as in the cloud."""
    url = f"/upload/storage/v1/b/{wire.bucket}/o?uploadType=resumable&name=data"
    refused = wire.send("POST", url, json.dumps({"contentTyp": "text/plain"}))
    assert refused.status == 400
    assert "contentTyp" in refused.message
    assert wire.upload("data", b"x", "&ifGenerationmatch=0").status == 400
    assert wire.upload("data", b"x", "&ifGenerationMatch=soon").status == 400
    assert wire.send("GET", f"/storage/v1/b/{wire.bucket}/o?maxresults=x").status == 400


def test_unknown_upload_types_and_keys_are_refused(wire: Wire) -> None:
    """What the local cloud can't do it says, instead of doing something else."""
    url = f"/upload/storage/v1/b/{wire.bucket}/o?name=data&uploadType="
    assert wire.send("POST", url + "telepathy", b"x").status == 400
    assert wire.upload("data", b"x", x_goog_encryption_algorithm="AES256").status == 501
    assert wire.send("GET", f"/storage/v1/b/{wire.bucket}/o?softDeleted=true").status == 501
