"""Cloud Storage's protocol where the stock client hides it: reading, rewriting, batches, refusals."""

import base64
import gzip
import json
import os
from urllib.parse import quote, urlsplit

import pytest

from tests.contract.storage.wire import Wire


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


@pytest.mark.parametrize(
    ("body", "headers"),
    [(b"small", {}), (os.urandom(200_000), {}), (b"no gzip", {"content_encoding": "gzip"})],
    ids=["small", "large", "packed"],
)
def test_an_upload_to_no_bucket_is_refused_for_just_that(wire: Wire, body: bytes, headers: dict[str, str]) -> None:
    """Whatever the size; and what is packed is not unpacked first, as it may become any size."""
    url = "/upload/storage/v1/b/no-such-bucket/o?uploadType=media&name=x"
    answer = wire.send("POST", url, body, **headers)
    assert answer.status == 404
    assert answer.message.endswith("no-such-bucket")


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
