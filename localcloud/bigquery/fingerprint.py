"""FARM_FINGERPRINT, exactly as BigQuery computes it, over whole columns.

BigQuery's function is Fingerprint64 of the open-source FarmHash library (`farmhashna::Hash64`), read as a *signed* 64-bit
number. The hash is fixed for ever, so it is written here once, over numpy arrays: strings are grouped by length and every
group is hashed with a few dozen vector instructions. Reading it unsigned, or one row at a time, are the two known traps:
the first puts rows on the wrong side of `MOD(..., 4)`, the second is a hundred times slower.

numpy and pyarrow are imported at the first call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    # uint64 throughout; numpy's stubs make a shifted or masked word signed, which it is not.
    Words = NDArray[Any]

# The constants of FarmHash: primes between 2^63 and 2^64.
_K0 = 0xC3A5C85C97CB3127
_K1 = 0xB492B66FBE98F273
_K2 = 0x9AE16A3B2F90404F
_MASK = 0xFFFFFFFFFFFFFFFF
_SEED = 81
_BLOCK_BYTES = 64


def farm_fingerprint(values: list[bytes]) -> list[int]:
    """Fingerprint byte strings.

    Returns:
        Signed 64-bit integers, one per value.
    """
    import pyarrow as pa

    return [int(one) for one in fingerprint_array(pa.array(values, pa.binary()))]


def fingerprint_array(values: pa.Array) -> NDArray[np.int64]:
    """Fingerprint an Arrow string or binary array; the caller masks the nulls (their answer is of no meaning).

    Returns:
        int64, shape (len(values),).
    """
    import numpy as np
    import pyarrow as pa

    large = values.cast(pa.large_binary())
    size = len(large)
    _, offsets_buffer, data = large.buffers()
    offsets = np.frombuffer(offsets_buffer, dtype=np.int64, count=large.offset + size + 1)[large.offset :]
    # Sixteen spare bytes, so that an 8-byte read that starts at the last byte stays inside.
    text = np.zeros((len(data) if data is not None else 0) + 16, dtype=np.uint8)
    if data is not None:
        text[: len(data)] = np.frombuffer(data, dtype=np.uint8)
    starts = offsets[:-1]
    lengths = np.diff(offsets)
    hashed = np.full(size, _K2, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for group, function in _groups(lengths):
            hashed[group] = function(_Text(text), starts[group], lengths[group].astype(np.uint64))
    return hashed.view(np.int64)


def _groups(lengths: NDArray[np.int64]) -> list[tuple[NDArray[np.int64], Any]]:
    import numpy as np

    bounds = ((1, 3, _up_to_3), (4, 7, _from_4), (8, 16, _from_8), (17, 32, _from_17), (33, 64, _from_33))
    found = [(np.nonzero((lengths >= low) & (lengths <= high))[0], function) for low, high, function in bounds]
    found.append((np.nonzero(lengths > _BLOCK_BYTES)[0], _from_65))
    return [(group, function) for group, function in found if len(group)]


class _Text:
    """The bytes of all strings, readable as little-endian words at any position."""

    def __init__(self, text: NDArray[np.uint8]) -> None:
        import numpy as np

        self.bytes = text
        self._words64 = np.ndarray((len(text) - 7,), dtype="<u8", buffer=text, strides=(1,))
        self._words32 = np.ndarray((len(text) - 3,), dtype="<u4", buffer=text, strides=(1,))

    def word64(self, at: Any) -> Words:
        words: Words = self._words64[at]
        return words

    def word32(self, at: Any) -> Words:
        words: Words = self._words32[at].astype("uint64")
        return words


def _rotate(value: Words, bits: int) -> Words:
    return (value >> bits) | (value << (64 - bits))


def _shift_mix(value: Words) -> Words:
    mixed: Words = value ^ (value >> 47)
    return mixed


def _mix(u: Words, v: Words, multiplier: Words) -> Words:
    """Murmur-inspired hash of 16 bytes (`HashLen16`)."""
    return _shift_mix((v ^ _shift_mix((u ^ v) * multiplier)) * multiplier) * multiplier


def _multiplier(length: Words) -> Words:
    return length * 2 + _K2


def _int64(length: Words) -> NDArray[np.int64]:
    return length.astype("int64")


def _up_to_3(text: _Text, start: NDArray[np.int64], length: Words) -> Words:
    size = _int64(length)
    first, middle, last = (text.bytes[at].astype("uint64") for at in (start, start + (size >> 1), start + size - 1))
    return _shift_mix((first + (middle << 8)) * _K2 ^ (length + (last << 2)) * _K0) * _K2


def _from_4(text: _Text, start: NDArray[np.int64], length: Words) -> Words:
    end = start + _int64(length)
    return _mix(length + (text.word32(start) << 3), text.word32(end - 4), _multiplier(length))


def _from_8(text: _Text, start: NDArray[np.int64], length: Words) -> Words:
    multiplier = _multiplier(length)
    a = text.word64(start) + _K2
    b = text.word64(start + _int64(length) - 8)
    return _mix(_rotate(b, 37) * multiplier + a, (_rotate(a, 25) + b) * multiplier, multiplier)


def _from_17(text: _Text, start: NDArray[np.int64], length: Words) -> Words:
    multiplier = _multiplier(length)
    end = start + _int64(length)
    a = text.word64(start) * _K1
    b = text.word64(start + 8)
    c = text.word64(end - 8) * multiplier
    d = text.word64(end - 16) * _K2
    return _mix(_rotate(a + b, 43) + _rotate(c, 30) + d, a + _rotate(b + _K2, 18) + c, multiplier)


def _from_33(text: _Text, start: NDArray[np.int64], length: Words) -> Words:
    multiplier = _multiplier(length)
    end = start + _int64(length)
    a = text.word64(start) * _K2
    b = text.word64(start + 8)
    c = text.word64(end - 8) * multiplier
    d = text.word64(end - 16) * _K2
    y = _rotate(a + b, 43) + _rotate(c, 30) + d
    z = _mix(y, a + _rotate(b + _K2, 18) + c, multiplier)
    e = text.word64(start + 16) * multiplier
    f = text.word64(start + 24)
    g = (y + text.word64(end - 32)) * multiplier
    h = (z + text.word64(end - 24)) * multiplier
    return _mix(_rotate(e + f, 43) + _rotate(g, 30) + h, e + _rotate(f + a, 18) + g, multiplier)


class _State:
    """The 56 bytes of state which FarmHash carries through a long string, one per string."""

    def __init__(self, size: int) -> None:
        import numpy as np

        def full(value: int) -> Words:
            return np.full(size, value & _MASK, dtype=np.uint64)

        start_y = _SEED * _K1 + 113
        start_z = (start_y * _K2 + 113) & _MASK
        self.x = full(_SEED * _K2)
        self.y = full(start_y)
        self.z = full((start_z ^ (start_z >> 47)) * _K2)
        self.v = (full(0), full(0))
        self.w = (full(0), full(0))

    def take(self, which: NDArray[Any]) -> _State:
        part = object.__new__(_State)
        part.x, part.y, part.z = self.x[which], self.y[which], self.z[which]
        part.v = (self.v[0][which], self.v[1][which])
        part.w = (self.w[0][which], self.w[1][which])
        return part

    def put(self, which: NDArray[Any], part: _State) -> None:
        self.x[which], self.y[which], self.z[which] = part.x, part.y, part.z
        for mine, theirs in ((self.v, part.v), (self.w, part.w)):
            mine[0][which], mine[1][which] = theirs

    def step(self, text: _Text, at: NDArray[np.int64], multiplier: Any, factor: int) -> None:
        """Take in 64 bytes; the last block of a string has its own multiplier and a factor of 9."""
        v, w = self.v, self.w
        x = _rotate(self.x + self.y + v[0] + text.word64(at + 8), 37) * multiplier
        y = _rotate(self.y + v[1] + text.word64(at + 48), 42) * multiplier
        x ^= w[1] * factor
        y += v[0] * factor + text.word64(at + 40)
        z = _rotate(self.z + w[0], 33) * multiplier
        self.v = _weak_hash(text, at, v[1] * multiplier, x + w[0])
        self.w = _weak_hash(text, at + 32, z + w[1], y + text.word64(at + 16))
        self.x, self.y, self.z = z, y, x


def _weak_hash(text: _Text, at: NDArray[np.int64], a: Words, b: Words) -> tuple[Words, Words]:
    first, second, third, fourth = (text.word64(at + step) for step in (0, 8, 16, 24))
    a = a + first
    b = _rotate(b + a + fourth, 21)
    c = a
    a = a + second + third
    b = b + _rotate(a, 44)
    return a + fourth, b + c


def _from_65(text: _Text, start: NDArray[np.int64], length: Words) -> Words:
    import numpy as np

    size = _int64(length)
    state = _State(len(start))
    state.x += text.word64(start)
    blocks = (size - 1) // _BLOCK_BYTES
    for block in range(int(blocks.max())):
        which = np.nonzero(blocks > block)[0]
        part = state.take(which)
        part.step(text, start[which] + block * _BLOCK_BYTES, np.uint64(_K1), 1)
        state.put(which, part)
    multiplier = ((state.z & 0xFF) << 1) + _K1
    first_w = state.w[0] + ((length - 1) & 63)
    first_v = state.v[0] + first_w
    state.w = (first_w + first_v, state.w[1])
    state.v = (first_v, state.v[1])
    state.step(text, start + size - _BLOCK_BYTES, multiplier, 9)
    left = _mix(state.v[0], state.w[0], multiplier) + _shift_mix(state.y) * _K0 + state.z
    return _mix(left, _mix(state.v[1], state.w[1], multiplier) + state.x, multiplier)
