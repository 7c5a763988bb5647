"""multipart/related bodies, however the network cuts them."""

import asyncio
import itertools
from collections.abc import AsyncIterator

from hypothesis import given
from hypothesis import strategies as st

from localcloud.storage.multipart import MultipartBody


async def pieces(body: bytes, cuts: list[int]) -> AsyncIterator[bytes]:
    edges = [0, *sorted({cut % (len(body) + 1) for cut in cuts}), len(body)]
    for begin, end in itertools.pairwise(edges):
        if begin < end:
            yield body[begin:end]


async def parse(body: bytes, cuts: list[int]) -> tuple[dict[str, object], str, bytes]:
    parsed = MultipartBody("multipart/related; boundary=BOUND", pieces(body, cuts))
    metadata = await parsed.read_metadata()
    media = b"".join([chunk async for chunk in parsed.media()])
    return metadata, parsed.media_type, media


@given(
    st.one_of(st.binary(max_size=40), st.just(b"\r\n--BOUN"), st.just(b"x" * 5000), st.just(b"--BOUND\r\n")),
    st.lists(st.integers(0, 6000), max_size=12),
    st.sampled_from([b"\r\n", b"\n"]),
    st.sampled_from([b"", b"\r\n", b"\r\nepilogue"]),
)
def test_any_cut_gives_the_same_parts(media: bytes, cuts: list[int], line_end: bytes, epilogue: bytes) -> None:
    """Where the body is cut into chunks changes nothing; media come back byte for byte."""
    lines = [b"--BOUND", b"Content-Type: application/json", b"", b'{"name": "x"}', b"--BOUND", b"content-type: text/x"]
    body = line_end.join([*lines, b"", media]) + line_end + b"--BOUND--" + epilogue
    if line_end == b"\n" and media.endswith(b"\r"):
        return  # indistinguishable from a CRLF line end
    assert asyncio.run(parse(body, cuts)) == ({"name": "x"}, "text/x", media)
