"""What the stock google-cloud-storage client needs, against every Cloud Storage at hand."""

import gzip
import io
import json
import os
import uuid
import zlib

import pytest
from google.api_core import exceptions
from google.cloud import storage

from tests.support.racing import race

STEP_BYTES = 256 * 1024
ODD_NAMES = [
    "a/b c#?%+&=.txt",
    "../..",
    "a//b/../c",
    "ünïcödé-名前-🏃",
    "%2F",
    "/leading",
    "trailing/",
    "o/acl",
    "x" * 1024,
    "tab\tand\x7f",
]


def test_buckets_are_made_read_changed_and_deleted(client: storage.Client) -> None:
    """A bucket goes through its life, and a second of its name is refused with 409."""
    name = f"bucket-{uuid.uuid4().hex}"
    bucket = client.create_bucket(name, location="us-central1")
    assert bucket.location == "US-CENTRAL1"
    with pytest.raises(exceptions.Conflict):
        client.create_bucket(name)
    bucket.labels = {"team": "baton"}
    bucket.patch()
    assert client.get_bucket(name).labels == {"team": "baton"}
    assert name in [found.name for found in client.list_buckets(prefix=name[:12])]
    bucket.blob("one").upload_from_string("1")
    with pytest.raises(exceptions.Conflict):
        bucket.delete()
    bucket.delete_blobs(["one"])
    bucket.delete()
    assert client.lookup_bucket(name) is None
    with pytest.raises(exceptions.NotFound):
        client.get_bucket(name)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_come_back_as_they_went(bucket: storage.Bucket, name: str) -> None:
    """Any name that Cloud Storage allows is stored, listed, read and deleted."""
    bucket.blob(name).upload_from_string(name)
    assert [blob.name for blob in bucket.list_blobs()] == [name]
    found = bucket.get_blob(name)
    assert found is not None
    assert found.download_as_text() == name
    assert bucket.blob(name).exists()
    found.metadata = {"name": name}
    found.patch()
    found.delete()
    assert not bucket.blob(name).exists()


@pytest.mark.parametrize(
    "name", ["", ".", "..", "x" * 1025, "é" * 513, "line\nbreak", "nul\0", ".well-known/acme-challenge/x"]
)
def test_names_that_are_not_allowed_are_refused(bucket: storage.Bucket, name: str) -> None:
    """A name that Cloud Storage forbids is refused with 400, and nothing is stored."""
    with pytest.raises((exceptions.BadRequest, ValueError)):
        bucket.blob(name).upload_from_string("x")
    with pytest.raises((exceptions.BadRequest, ValueError)):
        bucket.blob(name, chunk_size=STEP_BYTES).upload_from_string("x")
    assert list(bucket.list_blobs()) == []


@pytest.mark.parametrize("size_bytes", [0, 1, 65536, 65537, STEP_BYTES, 3 * STEP_BYTES + 17])
@pytest.mark.parametrize("chunk_bytes", [None, STEP_BYTES])
def test_uploads_of_every_size_come_back(bucket: storage.Bucket, size_bytes: int, chunk_bytes: int | None) -> None:
    """One request or chunks, inline or file: the same bytes come back, and the checksums agree."""
    data = os.urandom(size_bytes)
    blob = bucket.blob("data", chunk_size=chunk_bytes)
    blob.upload_from_file(io.BytesIO(data), content_type="application/x-test", checksum="md5")
    assert blob.size == size_bytes
    assert blob.content_type == "application/x-test"
    assert bucket.blob("data").download_as_bytes(checksum="md5") == data
    assert bucket.blob("data").download_as_bytes(checksum="crc32c") == data


def test_writing_and_reading_as_a_file(bucket: storage.Bucket) -> None:
    """`open("wb")` and `open("rb")` work, whatever the pieces."""
    data = os.urandom(STEP_BYTES * 2 + 1000)
    with bucket.blob("file").open("wb", chunk_size=STEP_BYTES) as file:
        for start in range(0, len(data), 100_000):
            file.write(data[start : start + 100_000])
    with bucket.blob("file").open("rb", chunk_size=STEP_BYTES) as file:
        file.seek(5)
        assert file.read(10) == data[5:15]
        assert file.read() == data[15:]


@pytest.mark.parametrize("size_bytes", [1000, 200_000])
def test_ranges(bucket: storage.Bucket, size_bytes: int) -> None:
    """A range gives exactly its bytes; one behind the end is refused."""
    data = os.urandom(size_bytes)
    blob = bucket.blob("data")
    blob.upload_from_string(data)
    assert blob.download_as_bytes(start=10, end=19) == data[10:20]
    assert blob.download_as_bytes(start=size_bytes - 5) == data[-5:]
    assert blob.download_as_bytes(start=size_bytes - 5, end=size_bytes + 100) == data[-5:]
    with pytest.raises(exceptions.RequestRangeNotSatisfiable):
        blob.download_as_bytes(start=size_bytes)


def test_a_wrong_checksum_is_refused(bucket: storage.Bucket) -> None:
    """Bytes that are not what the client says are refused with 400, and nothing is stored."""
    blob = bucket.blob("data")
    blob.md5_hash = "AAAAAAAAAAAAAAAAAAAAAA=="
    with pytest.raises(exceptions.BadRequest):
        blob.upload_from_string(b"these bytes", checksum=None)
    assert bucket.get_blob("data") is None


def test_gzip_content_is_unpacked_on_the_way(bucket: storage.Bucket) -> None:
    """An object with contentEncoding gzip is stored packed and read unpacked."""
    text = b"a line of text\n" * 10_000
    blob = bucket.blob("log.gz")
    blob.content_encoding = "gzip"
    blob.upload_from_string(gzip.compress(text), content_type="text/plain")
    assert bucket.blob("log.gz").download_as_bytes() == text
    assert zlib.decompress(bucket.blob("log.gz").download_as_bytes(raw_download=True), wbits=31) == text


def test_a_generation_is_read_until_it_is_replaced(bucket: storage.Bucket) -> None:
    """`generation=` reads that generation or answers 404, never another one; generations grow."""
    blob = bucket.blob("data")
    blob.upload_from_string("old")
    old = blob.generation
    blob.upload_from_string("new")
    assert blob.generation > old
    assert bucket.blob("data", generation=blob.generation).download_as_bytes() == b"new"
    with pytest.raises(exceptions.NotFound):
        bucket.blob("data", generation=old).download_as_bytes()


def test_generation_preconditions(bucket: storage.Bucket) -> None:
    """Create-if-absent, replace-if-unchanged and delete-if-unchanged refuse with 412 and change nothing."""
    blob = bucket.blob("data")
    blob.upload_from_string("first", if_generation_match=0)
    for condition in (
        {"if_generation_match": 0},
        {"if_generation_match": 1},
    ):
        for chunk_bytes in (None, STEP_BYTES):
            with pytest.raises(exceptions.PreconditionFailed):
                bucket.blob("data", chunk_size=chunk_bytes).upload_from_string("second", **condition)
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("data").delete(if_generation_match=1)
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("data").download_as_bytes(if_generation_match=1)
    with pytest.raises(exceptions.NotModified):
        bucket.blob("data").upload_from_string("second", if_generation_not_match=blob.generation)
    with pytest.raises(exceptions.NotModified):
        bucket.blob("absent").upload_from_string("x", if_generation_not_match=0)
    assert bucket.get_blob("absent") is None
    assert bucket.blob("data").download_as_bytes(if_generation_match=blob.generation) == b"first"
    bucket.blob("data").upload_from_string("second", if_generation_match=blob.generation)
    assert bucket.blob("data").download_as_bytes() == b"second"


def test_metageneration_preconditions(bucket: storage.Bucket) -> None:
    """Changing metadata grows the metageneration; a stale one is refused with 412."""
    blob = bucket.blob("data")
    blob.upload_from_string("x")
    assert blob.metageneration == 1
    blob.metadata = {"step": "1"}
    blob.patch(if_metageneration_match=1)
    assert blob.metageneration == 2
    with pytest.raises(exceptions.PreconditionFailed):
        blob.patch(if_metageneration_match=1)
    with pytest.raises(exceptions.PreconditionFailed):
        blob.upload_from_string("y", if_metageneration_match=1)
    with pytest.raises(exceptions.NotModified):
        blob.delete(if_metageneration_not_match=2)
    assert bucket.get_blob("data").metadata == {"step": "1"}


def test_one_of_sixteen_racing_creators_wins(bucket: storage.Bucket, clients: list[storage.Client]) -> None:
    """Of sixteen clients that create the same object with ifGenerationMatch=0, exactly one does."""
    for attempt in range(5):
        won: list[int] = []

        def create(number: int, name: str = f"claim-{attempt}", won: list[int] = won) -> None:
            blob = clients[number].bucket(bucket.name).blob(name)
            try:
                blob.upload_from_string(str(number), if_generation_match=0)
            except exceptions.PreconditionFailed:
                return
            won.append(number)

        race(16, create)
        assert len(won) == 1
        assert bucket.blob(f"claim-{attempt}").download_as_text() == str(won[0])


def test_a_counter_raised_by_sixteen_clients_loses_nothing(
    bucket: storage.Bucket, clients: list[storage.Client]
) -> None:
    """Compare-and-set: each of sixteen clients adds one to an object, and the sum is sixteen."""
    bucket.blob("counter").upload_from_string("0")

    def add_one(number: int) -> None:
        mine = clients[number].bucket(bucket.name)
        while True:
            blob = mine.get_blob("counter")
            value = int(mine.blob("counter", generation=blob.generation).download_as_text()) if blob else 0
            try:
                mine.blob("counter").upload_from_string(str(value + 1), if_generation_match=blob.generation)
            except exceptions.PreconditionFailed:
                continue
            return

    def add_one_patiently(number: int) -> None:
        while True:
            try:
                return add_one(number)
            except exceptions.NotFound:  # the generation was replaced between the two reads
                continue

    race(16, add_one_patiently)
    assert bucket.blob("counter").download_as_text() == "16"


def test_listing_by_prefix_delimiter_and_offsets(bucket: storage.Bucket) -> None:
    """Listings cut the names as asked, in order of their bytes."""
    for name in ["a", "b/1", "b/2", "b/c/3", "d/4", "é"]:
        bucket.blob(name).upload_from_string(name)

    def names(**query: object) -> tuple[list[str], set[str]]:
        found = bucket.list_blobs(**query)
        return [blob.name for blob in found], found.prefixes

    assert names() == (["a", "b/1", "b/2", "b/c/3", "d/4", "é"], set())
    assert names(prefix="b/") == (["b/1", "b/2", "b/c/3"], set())
    assert names(delimiter="/") == (["a", "é"], {"b/", "d/"})
    assert names(prefix="b/", delimiter="/") == (["b/1", "b/2"], {"b/c/"})
    assert names(start_offset="b/2", end_offset="d/4") == (["b/2", "b/c/3"], set())
    assert names(max_results=2) == (["a", "b/1"], set())
    assert names(match_glob="b/*") == (["b/1", "b/2"], set())
    assert names(match_glob="**/{3,4}") == (["b/c/3", "d/4"], set())


def test_listing_in_pages(bucket: storage.Bucket) -> None:
    """Pages together are the listing: nothing twice, nothing left out, prefixes included."""
    expected = [f"{letter}/{number}" for letter in "abc" for number in range(5)] + ["z1", "z2"]
    for name in expected:
        bucket.blob(name).upload_from_string("")
    pages = list(bucket.list_blobs(page_size=4).pages)
    assert [len(list(page)) for page in pages][:-1] == [4, 4, 4, 4]
    assert [blob.name for blob in bucket.list_blobs(page_size=4)] == expected
    folded = bucket.list_blobs(page_size=1, delimiter="/")
    assert [blob.name for blob in folded] == ["z1", "z2"]
    assert folded.prefixes == {"a/", "b/", "c/"}


def test_versions(client: storage.Client) -> None:
    """A versioned bucket keeps what is replaced or deleted, until that generation is deleted for good."""
    bucket = client.bucket(f"bucket-{uuid.uuid4().hex}")
    bucket.versioning_enabled = True
    bucket = client.create_bucket(bucket)
    generations = []
    for text in ("one", "two"):
        blob = bucket.blob("data")
        blob.upload_from_string(text)
        generations.append(blob.generation)
    bucket.blob("data").delete()
    assert list(bucket.list_blobs()) == []
    assert [blob.generation for blob in bucket.list_blobs(versions=True)] == generations
    assert bucket.blob("data", generation=generations[0]).download_as_bytes() == b"one"
    bucket.blob("data").upload_from_string("three", if_generation_match=0)
    bucket.blob("data", generation=generations[0]).delete()
    assert next(blob.generation for blob in bucket.list_blobs(versions=True)) == generations[1]


def test_metadata_is_patched_and_updated(bucket: storage.Bucket) -> None:
    """A patch merges, null removes; an update replaces."""
    blob = bucket.blob("data")
    blob.metadata = {"keep": "1", "drop": "2"}
    blob.cache_control = "no-store"
    blob.upload_from_string("x", content_type="text/plain")
    blob.metadata = {"drop": None, "new": "3"}
    blob.patch()
    assert bucket.get_blob("data").metadata == {"keep": "1", "new": "3"}
    assert bucket.get_blob("data").content_type == "text/plain"
    blob.metadata = {"only": "4"}
    blob.update()
    found = bucket.get_blob("data")
    assert found.metadata == {"only": "4"}
    assert found.cache_control == "no-store"


def test_copies(bucket: storage.Bucket) -> None:
    """Copy, rewrite, rename and compose give new objects that live on without their sources."""
    blob = bucket.blob("a")
    blob.metadata = {"k": "v"}
    blob.upload_from_string("aa", content_type="text/plain")
    bucket.copy_blob(blob, bucket, "b")
    token, written, total = bucket.blob("c").rewrite(blob)
    assert (token, written, total) == (None, 2, 2)
    blob.delete()
    assert bucket.get_blob("b").metadata == {"k": "v"}
    assert bucket.blob("c").download_as_bytes() == b"aa"
    composed = bucket.blob("d")
    composed.content_type = "text/csv"
    composed.compose([bucket.blob("b"), bucket.blob("c")])
    assert composed.component_count == 2
    assert composed.md5_hash is None
    assert composed.download_as_bytes() == b"aaaa"
    assert bucket.rename_blob(composed, "e").download_as_bytes() == b"aaaa"
    assert [found.name for found in bucket.list_blobs()] == ["b", "c", "e"]
    with pytest.raises(exceptions.NotFound):
        bucket.copy_blob(bucket.blob("absent"), bucket, "f")
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.copy_blob(bucket.blob("b"), bucket, "c", if_generation_match=0)
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.copy_blob(bucket.blob("b"), bucket, "f", if_source_generation_match=1)
    with pytest.raises(exceptions.PreconditionFailed):
        composed.compose([bucket.blob("b"), bucket.blob("c")], if_source_generation_match=[1, None])


def test_an_object_is_rewritten_onto_itself(bucket: storage.Bucket) -> None:
    """Source and destination may be one: the bytes stay, the storage class and the generation change."""
    for size_bytes in (10, 100_000):
        data = os.urandom(size_bytes)
        blob = bucket.blob("data")
        blob.upload_from_string(data)
        before = blob.generation
        blob.update_storage_class("NEARLINE")
        blob.reload()
        assert blob.storage_class == "NEARLINE"
        assert blob.generation > before
        assert blob.download_as_bytes() == data


def test_batches(client: storage.Client, bucket: storage.Bucket) -> None:
    """One request carries many calls; each has its own answer."""
    blobs = [bucket.blob(f"dir/{number} %") for number in range(20)]
    for blob in blobs:
        blob.upload_from_string("x")
    with client.batch():
        for blob in blobs[:10]:
            blob.metadata = {"seen": "yes"}
            blob.patch()
    assert bucket.get_blob(blobs[0].name).metadata == {"seen": "yes"}
    with client.batch():
        for blob in blobs:
            blob.delete()
    assert list(bucket.list_blobs()) == []
    with pytest.raises(exceptions.NotFound), client.batch():
        blobs[0].delete()


def test_notification_configs(bucket: storage.Bucket) -> None:
    """Notification configs are made, read, listed and deleted."""
    made = bucket.notification(
        topic_name="data-ready",
        topic_project="baton-local",
        custom_attributes={"room": "raw"},
        event_types=["OBJECT_FINALIZE"],
        blob_name_prefix="raw/",
        payload_format="JSON_API_V1",
    )
    made.create()
    (listed,) = bucket.list_notifications()
    assert listed.notification_id == made.notification_id
    found = bucket.get_notification(made.notification_id)
    assert (listed.topic_name, listed.topic_project) == ("data-ready", "baton-local")
    assert found.event_types == ["OBJECT_FINALIZE"]
    assert found.custom_attributes == {"room": "raw"}
    assert found.blob_name_prefix == "raw/"
    found.delete()
    assert list(bucket.list_notifications()) == []
    with pytest.raises(exceptions.NotFound):
        bucket.get_notification(made.notification_id)


def test_errors_have_googles_shape(client: storage.Client, bucket: storage.Bucket) -> None:
    """An error carries code, message and reason where Google's clients look for them."""
    response = client._http.request("GET", f"{client._connection.API_BASE_URL}/storage/v1/b/{bucket.name}/o/absent")
    error = json.loads(response.content)["error"]
    assert (response.status_code, error["code"]) == (404, 404)
    assert error["errors"][0]["reason"] == "notFound"
    assert error["errors"][0]["domain"] == "global"
    assert error["message"]
