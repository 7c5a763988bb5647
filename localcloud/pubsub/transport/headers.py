"""Header blocks: requests' are read by the `hpack` package, ours are written without its dynamic table.

A client sends the same block again and again once its names and values are in the compression table: bytes that are indexes
alone. Such a block means the same until the table changes, so what it means is remembered by its bytes.
"""

import base64
from typing import NamedTuple

import hpack

from localcloud.pubsub.transport.frames import ConnectionFault, ErrorCode
from localcloud.pubsub.transport.status import Status

MAX_HEADER_BYTES = 64 * 1024
_REMEMBERED = 256
_TIMEOUT_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_PLAIN = frozenset(range(0x20, 0x7F)) - {0x25}


class RequestHead(NamedTuple):
    """What the transport needs of a request's headers."""

    method: str
    path: str
    content_type: str
    encoding: str
    timeout_s: float | None


class HeaderReader:
    """Reads the request heads of one connection, in the order they arrive."""

    def __init__(self) -> None:
        self._decoder = hpack.Decoder(max_header_list_size=MAX_HEADER_BYTES)
        self._known: dict[bytes, RequestHead] = {}

    def read(self, block: bytes) -> RequestHead:
        """The head in a block.

        Raises:
            ConnectionFault: the block cannot be decompressed; the table is out of step from here on.
        """
        known = self._known.get(block)
        if known is not None:
            return known
        try:
            pairs = self._decoder.decode(block, raw=True)
        except (hpack.HPACKError, ValueError, IndexError, UnicodeDecodeError) as error:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, f"malformed header block: {error!r}") from None
        found = _head(dict(pairs))
        if not _is_indexes_alone(block) or len(self._known) >= _REMEMBERED:
            self._known.clear()  # the table may have changed
        if _is_indexes_alone(block):
            self._known[block] = found
        return found


def _is_indexes_alone(block: bytes) -> bool:
    """Whether the block only refers to the table. (Indexes of more than one byte are left out, to be sure.)"""
    return all(0x80 < byte < 0xFF for byte in block)


def _head(pairs: dict[bytes, bytes]) -> RequestHead:
    def text(name: bytes) -> str:
        return bytes(pairs.get(name, b"")).decode("latin-1")

    return RequestHead(
        method=text(b":method"),
        path=text(b":path"),
        content_type=text(b"content-type"),
        encoding=text(b"grpc-encoding"),
        timeout_s=_timeout_s(text(b"grpc-timeout")),
    )


def _timeout_s(text: str) -> float | None:
    number, unit = text[:-1], text[-1:]
    if not number.isdecimal() or len(number) > 8 or unit not in _TIMEOUT_UNITS:
        return None
    return int(number) * _TIMEOUT_UNITS[unit]


# ---- ours ----


def _integer(value: int, prefix_bits: int, first: int) -> bytes:
    limit = (1 << prefix_bits) - 1
    if value < limit:
        return bytes((first | value,))
    out = bytearray((first | limit,))
    value -= limit
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def literal(name: bytes, value: bytes) -> bytes:
    """A field that leaves the compression table alone. Source: RFC 7541, section 6.2.2."""
    return b"\x00" + _integer(len(name), 7, 0) + name + _integer(len(value), 7, 0) + value


RESPONSE_HEAD = b"\x88" + literal(b"content-type", b"application/grpc")
OK_TRAILERS = literal(b"grpc-status", b"0")
TABLE_SIZE_ZERO = b"\x20"
NOT_GRPC = literal(b":status", b"415")


def error_trailers(code: Status, message: str, details: bytes) -> bytes:
    """Trailers of a call that failed."""
    block = literal(b"grpc-status", str(int(code)).encode("ascii"))
    if message:
        block += literal(b"grpc-message", _percent_encoded(message))
    if details:
        block += literal(b"grpc-status-details-bin", base64.b64encode(details).rstrip(b"="))
    return block


def _percent_encoded(message: str) -> bytes:
    """Source: PROTOCOL-HTTP2.md, "Status-Message". Cut so that the trailers fit any client's header limit of 8 KiB."""
    return b"".join(
        bytes((byte,)) if byte in _PLAIN else b"%%%02X" % byte for byte in message.encode("utf-8", "replace")[:1500]
    )
