"""Cloud Storage's protocol where the stock client hides it: resumable sessions, batches, ranges, refusals."""

import base64
import gzip
import hashlib
import http.client
import json
import os
import socket
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import pytest

from tests.support.waiting import wait_until

STEP_BYTES = 256 * 1024


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        value: dict[str, object] = json.loads(self.body)
        return value

    @property
    def message(self) -> str:
        return str(json.loads(self.body)["error"]["message"])


class Wire:
    """A connection, and a bucket of its own to talk about."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self.bucket = f"bucket-{uuid.uuid4().hex}"
        made = self.send("POST", "/storage/v1/b?project=baton-local", json.dumps({"name": self.bucket}))
        assert made.status == 200, made

    def send(self, method: str, url: str, body: bytes | str = b"", **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(method, url, body, named)
        response = self._connection.getresponse()
        lowered = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, lowered, response.read())

    def object(self, name: str) -> str:
        return f"/storage/v1/b/{self.bucket}/o/{quote(name, safe='')}"

    def upload(self, name: str, data: bytes, query: str = "", **headers: str) -> Answer:
        url = f"/upload/storage/v1/b/{self.bucket}/o?uploadType=media&name={quote(name, safe='')}{query}"
        return self.send("POST", url, data, **headers)

    def download(self, name: str, **headers: str) -> Answer:
        return self.send("GET", self.object(name) + "?alt=media", **headers)

    def begin(self, name: str, metadata: Mapping[str, object] | None = None, query: str = "", **headers: str) -> str:
        url = f"/upload/storage/v1/b/{self.bucket}/o?uploadType=resumable{query}"
        begun = self.send("POST", url, json.dumps({"name": name, **(metadata or {})}), **headers)
        assert begun.status == 200, begun
        location = urlsplit(begun.headers["location"])
        return f"{location.path}?{location.query}"

    def put(self, session: str, data: bytes, content_range: str) -> Answer:
        return self.send("PUT", session, data, content_range=content_range)

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def wire(our_port: int) -> Iterator[Wire]:
    made = Wire(our_port)
    yield made
    made.close()


# -- resumable sessions --------------------------------------------------------------------------------------------


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


# -- other uploads -------------------------------------------------------------------------------------------------


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


# -- reading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("bytes=0-0", (206, 0, 1)),
        ("bytes=5-", (206, 5, 100)),
        ("bytes=-5", (206, 95, 100)),
        ("bytes=-500", (206, 0, 100)),
        ("bytes=90-500", (206, 90, 100)),
        ("bytes=9-5", (200, 0, 100)),
        ("bytes=0-1,5-6", (200, 0, 100)),
        ("lines=0-1", (200, 0, 100)),
        ("bytes=-", (200, 0, 100)),
    ],
)
def test_range_headers(wire: Wire, asked: str, expected: tuple[int, int, int]) -> None:
    """Every form of Range gives the bytes it names; one that can't be read is ignored."""
    data = os.urandom(100)
    wire.upload("data", data)
    status, begin, end = expected
    answer = wire.download("data", range=asked)
    assert (answer.status, answer.body) == (status, data[begin:end])
    if status == 206:
        assert answer.headers["content-range"] == f"bytes {begin}-{end - 1}/100"


def test_ranges_behind_the_end_are_refused(wire: Wire) -> None:
    """416 for what is not there, an empty object included."""
    wire.upload("empty", b"")
    assert wire.download("empty", range="bytes=0-").status == 416
    assert wire.download("empty").body == b""
    wire.upload("data", b"x")
    assert wire.download("data", range="bytes=-0").status == 416


def test_downloads_tell_generation_and_hashes(wire: Wire) -> None:
    """A download's headers carry what clients check."""
    made = wire.upload("data", b"x", content_type="text/x").json
    headers = wire.download("data").headers
    assert headers["x-goog-generation"] == made["generation"]
    assert headers["x-goog-hash"] == f"crc32c={made['crc32c']},md5={made['md5Hash']}"
    assert headers["content-type"] == "text/x"
    assert headers["etag"] == made["etag"]


def test_what_a_reader_has_is_not_sent_again(wire: Wire) -> None:
    """304 by etag or by generation; 412 by If-Match."""
    made = wire.upload("data", b"x").json
    assert wire.download("data", if_none_match=str(made["etag"])).status == 304
    assert wire.download("data", if_match="other").status == 412
    for query in (f"ifGenerationNotMatch={made['generation']}", "ifMetagenerationNotMatch=1"):
        assert wire.send("GET", f"{wire.object('data')}?{query}").status == 304
        assert wire.send("GET", f"{wire.object('data')}?alt=media&{query}").status == 304


def test_packed_objects_are_unpacked_for_clients_without_gzip(wire: Wire) -> None:
    """Decompressive transcoding: without Accept-Encoding: gzip the bytes come unpacked, whole and uncounted."""
    packed = gzip.compress(b"text " * 100_000)
    wire.upload("data", packed, "&contentEncoding=gzip")
    plain = wire.download("data", accept_encoding="identity", range="bytes=0-3")
    assert (plain.status, plain.body) == (200, b"text " * 100_000)
    assert "content-length" not in plain.headers
    assert wire.download("data", accept_encoding="gzip").body == packed


def test_plain_links_work(wire: Wire) -> None:
    """`GET` and `HEAD` of /BUCKET/OBJECT read the object, slashes and all."""
    made = wire.upload("a/b c", b"hello").json
    assert wire.send("GET", f"/{wire.bucket}/a/b%20c").body == b"hello"
    head = wire.send("HEAD", f"/{wire.bucket}/a/b%20c")
    assert (head.status, head.headers["content-length"], head.body) == (200, "5", b"")
    assert wire.send("GET", urlsplit(str(made["mediaLink"]))._replace(scheme="", netloc="").geturl()).body == b"hello"
    assert wire.send("GET", f"/{wire.bucket}/../{wire.bucket}/a").status == 404
    assert wire.send("GET", "/etc/passwd").status == 404


def test_partial_answers(wire: Wire) -> None:
    """`fields` cuts the answer to what was asked for."""
    wire.upload("data", b"x")
    assert wire.send("GET", wire.object("data") + "?fields=name,size").json == {"name": "data", "size": "1"}
    listed = wire.send("GET", f"/storage/v1/b/{wire.bucket}/o?fields=items(name),nextPageToken").json
    assert listed == {"items": [{"name": "data"}]}


@pytest.mark.parametrize(
    "token", ["x", "////", base64.b64encode(b'["a"]').decode(), base64.b64encode(b"[1,2]").decode()]
)
def test_page_tokens_are_checked(wire: Wire, token: str) -> None:
    """A page token that we did not give is refused with 400."""
    assert wire.send("GET", f"/storage/v1/b/{wire.bucket}/o?pageToken={quote(token, safe='')}").status == 400


@pytest.mark.parametrize("glob", ["[", "{a", "[z-a]"])
def test_globs_are_checked(wire: Wire, glob: str) -> None:
    """A glob that can't be read is refused with 400."""
    assert wire.send("GET", f"/storage/v1/b/{wire.bucket}/o?matchGlob={quote(glob)}").status == 400


def test_ten_thousand_objects_are_listed_in_pages(wire: Wire) -> None:
    """Pages of a big bucket are complete and in order; folders are folded without reading what is in them."""
    wire.upload("seed", b"")
    for start in range(0, 10_000, 100):
        calls = [
            f"--b\r\nContent-Type: application/http\r\n\r\nPOST {wire.object('seed')}/copyTo/b/{wire.bucket}/o/"
            f"{quote(f'{number % 10}/{number:05d}', safe='')} HTTP/1.1\r\n\r\n\r\n"
            for number in range(start, start + 100)
        ]
        body = "".join(calls) + "--b--"
        copied = wire.send("POST", "/batch/storage/v1", body, content_type="multipart/mixed; boundary=b")
        assert copied.body.count(b"HTTP/1.1 200 OK") == 100
    names: list[str] = []
    token = ""
    while True:
        page = wire.send(
            "GET", f"/storage/v1/b/{wire.bucket}/o?maxResults=999&pageToken={token}&fields=items(name),nextPageToken"
        )
        names += [item["name"] for item in page.json["items"]]
        if "nextPageToken" not in page.json:
            break
        token = quote(page.json["nextPageToken"], safe="")
    assert len(names) == 10_001
    assert names == sorted(names)
    folded = wire.send("GET", f"/storage/v1/b/{wire.bucket}/o?delimiter=/").json
    assert folded["prefixes"] == [f"{digit}/" for digit in range(10)]
    assert [item["name"] for item in folded["items"]] == ["seed"]


# -- rewrite and batch ---------------------------------------------------------------------------------------------


def test_a_rewrite_in_steps(wire: Wire) -> None:
    """maxBytesRewrittenPerCall answers tokens until the copy is done; two rewrites may overlap."""
    data = os.urandom(2 * 1024 * 1024 + 1)
    wire.upload("a", data)
    urls = [
        f"{wire.object('a')}/rewriteTo/b/{wire.bucket}/o/{name}?maxBytesRewrittenPerCall=1048576" for name in ("b", "c")
    ]
    tokens = ["", ""]
    for expected in ("1048576", "2097152"):
        for number, url in enumerate(urls):
            step = wire.send("POST", f"{url}&rewriteToken={tokens[number]}").json
            assert (step["done"], step["totalBytesRewritten"]) == (False, expected)
            tokens[number] = quote(str(step["rewriteToken"]), safe="")
    crossed = wire.send("POST", f"{urls[0]}&rewriteToken={tokens[1]}")
    assert crossed.status == 400
    for number, url in enumerate(urls):
        assert wire.send("POST", f"{url}&rewriteToken={tokens[number]}").json["done"] is True
    assert wire.download("b").body == wire.download("c").body == data
    assert wire.send("POST", urls[0].replace("1048576", "1000")).status == 400
    assert wire.send("POST", f"{urls[0]}&rewriteToken=x").status == 400


def test_a_rewrite_never_mixes_two_generations(wire: Wire) -> None:
    """A source that is replaced between two steps ends the rewrite; the destination is not made."""
    wire.upload("a", os.urandom(2 * 1024 * 1024))
    url = f"{wire.object('a')}/rewriteTo/b/{wire.bucket}/o/b?maxBytesRewrittenPerCall=1048576"
    token = quote(str(wire.send("POST", url).json["rewriteToken"]), safe="")
    wire.upload("a", os.urandom(2 * 1024 * 1024))
    assert wire.send("POST", f"{url}&rewriteToken={token}").status == 404
    assert wire.download("b").status == 404


def test_a_batch_answers_each_call(wire: Wire) -> None:
    """One part's failure is that part's answer; uploads and unknown paths are refused in their part."""
    wire.upload("data", b"x")
    calls = [
        f"GET {wire.object('data')} HTTP/1.1",
        f"GET {wire.object('absent')} HTTP/1.1",
        f"GET {wire.object('data')}?alt=media HTTP/1.1",
        f"POST /upload/storage/v1/b/{wire.bucket}/o?uploadType=media&name=y HTTP/1.1",
        "GET /nowhere HTTP/1.1",
        f"DELETE {wire.object('data')}",
    ]
    body = "".join(
        f"--b\r\nContent-Type: application/http\r\nContent-ID: <call-{number}>\r\n\r\n{call}\r\n\r\n\r\n"
        for number, call in enumerate(calls)
    )
    answer = wire.send("POST", "/batch/storage/v1", body + "--b--", content_type="multipart/mixed; boundary=b")
    text = answer.body.decode()
    codes = [part.split("HTTP/1.1 ")[1][:3] for part in text.split("Content-ID: <response-call-")[1:]]
    assert codes == ["200", "404", "400", "400", "400", "204"]
    for broken in ("", "--b--", "--b\r\n\r\nnonsense\r\n--b--"):
        refused = wire.send("POST", "/batch/storage/v1", broken, content_type="multipart/mixed; boundary=b")
        assert refused.status == 400


# -- what is not there ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bucket", ["ab", "Upper", "-x-", "goog-x", "my-google-x", "192.168.0.1", "a" * 64, "a..b", "x" * 223]
)
def test_bucket_names_are_checked(wire: Wire, bucket: str) -> None:
    """A bucket's name that the cloud forbids is refused with 400 and the rule."""
    refused = wire.send("POST", "/storage/v1/b?project=baton-local", json.dumps({"name": bucket}))
    assert refused.status == 400
    assert bucket in refused.message


def test_what_is_not_there_answers_404(wire: Wire) -> None:
    """A missing bucket is named in every refusal."""
    missing = "/storage/v1/b/no-such-bucket"
    for method, url in [
        ("GET", missing),
        ("GET", f"{missing}/o"),
        ("GET", f"{missing}/o/x"),
        ("GET", f"{missing}/o/x?alt=media"),
        ("DELETE", f"{missing}/o/x"),
        ("POST", "/upload/storage/v1/b/no-such-bucket/o?uploadType=media&name=x"),
        ("POST", f"{wire.object('x')}/copyTo/b/no-such-bucket/o/x"),
        ("GET", f"{missing}/notificationConfigs"),
        ("POST", "/nowhere"),
    ]:
        answer = wire.send(method, url)
        assert answer.status == 404, (method, url, answer)
    assert wire.send("POST", "/upload/storage/v1/b/no-such-bucket/o?uploadType=media&name=x").message.endswith(
        "no-such-bucket"
    )


def test_a_method_the_local_cloud_lacks_says_so(wire: Wire) -> None:
    """501 with the method's name, never a wrong answer."""
    answer = wire.send("GET", f"/storage/v1/b/{wire.bucket}/folders")
    assert answer.status == 501
    assert "storage.folders.list" in answer.message


def test_holds_keep_an_object(wire: Wire) -> None:
    """An object under a hold is neither deleted nor replaced until the hold is lifted."""
    wire.upload("data", b"x")
    wire.send("PATCH", wire.object("data"), json.dumps({"temporaryHold": True}))
    assert wire.send("DELETE", wire.object("data")).status == 403
    assert wire.upload("data", b"y").status == 403
    wire.send("PATCH", wire.object("data"), json.dumps({"temporaryHold": False}))
    assert wire.send("DELETE", wire.object("data")).status == 204


def test_iam_policies_are_kept(wire: Wire) -> None:
    """A policy is stored and read back; one based on an old etag is refused."""
    url = f"/storage/v1/b/{wire.bucket}/iam"
    old = wire.send("GET", url).json
    bindings = [{"role": "roles/storage.objectViewer", "members": ["user:someone@example.com"]}]
    changed = wire.send("PUT", url, json.dumps({"bindings": bindings, "etag": old["etag"]}))
    assert changed.json["bindings"] == bindings
    assert wire.send("PUT", url, json.dumps({"bindings": [], "etag": old["etag"]})).status == 412
    tested = wire.send("GET", f"{url}/testPermissions?permissions=storage.objects.get&permissions=storage.buckets.get")
    assert tested.json["permissions"] == ["storage.objects.get", "storage.buckets.get"]
