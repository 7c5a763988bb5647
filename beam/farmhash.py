"""FarmHash Fingerprint64, signed: what BigQuery's FARM_FINGERPRINT answers.

It is hashed once for each distinct key (a few hundred), never for each row, so plain Python is fast enough; the
binding on PyPI has a wheel for one platform only and would put a C++ compiler on everybody's list.

Source: google/farmhash, `src/farmhash.cc`, namespace `farmhashna` (Fingerprint64 is farmhashna::Hash64). The names of
the functions and of the variables are the original's, so that the two can be read side by side.
"""

import struct

_MASK = (1 << 64) - 1
# Primes between 2^63 and 2^64, from farmhash.cc.
_K0 = 0xC3A5C85C97CB3127
_K1 = 0xB492B66FBE98F273
_K2 = 0x9AE16A3B2F90404F
_SEED = 81


def farm_fingerprint(data: str | bytes) -> int:
    """Return BigQuery's FARM_FINGERPRINT of a string (its UTF-8 bytes) or of bytes: a signed 64-bit integer."""
    unsigned = fingerprint64(data.encode("utf-8") if isinstance(data, str) else data)
    return unsigned - (1 << 64) if unsigned >> 63 else unsigned


def fingerprint64(s: bytes) -> int:
    """Return FarmHash's Fingerprint64: an unsigned 64-bit integer, the same on every platform and in every version."""
    if len(s) <= 16:
        return _hash_len_0_to_16(s)
    if len(s) <= 32:
        return _hash_len_17_to_32(s)
    if len(s) <= 64:
        return _hash_len_33_to_64(s)
    return _hash_long(s)


def _fetch64(s: bytes, offset: int = 0) -> int:
    return int(struct.unpack_from("<Q", s, offset)[0])


def _fetch32(s: bytes, offset: int = 0) -> int:
    return int(struct.unpack_from("<I", s, offset)[0])


def _rotate(value: int, shift: int) -> int:
    return ((value >> shift) | (value << (64 - shift))) & _MASK if shift else value


def _shift_mix(value: int) -> int:
    return value ^ (value >> 47)


def _hash_len_16(u: int, v: int, mul: int) -> int:
    a = _shift_mix(((u ^ v) * mul) & _MASK)
    b = _shift_mix(((v ^ a) * mul) & _MASK)
    return (b * mul) & _MASK


def _hash_len_0_to_16(s: bytes) -> int:
    length = len(s)
    if length >= 8:
        mul = (_K2 + length * 2) & _MASK
        a = (_fetch64(s) + _K2) & _MASK
        b = _fetch64(s, length - 8)
        c = (_rotate(b, 37) * mul + a) & _MASK
        d = ((_rotate(a, 25) + b) * mul) & _MASK
        return _hash_len_16(c, d, mul)
    if length >= 4:
        mul = (_K2 + length * 2) & _MASK
        return _hash_len_16((length + (_fetch32(s) << 3)) & _MASK, _fetch32(s, length - 4), mul)
    if length > 0:
        y = s[0] + (s[length >> 1] << 8)
        z = length + (s[length - 1] << 2)
        return (_shift_mix(((y * _K2) & _MASK) ^ ((z * _K0) & _MASK)) * _K2) & _MASK
    return _K2


def _hash_len_17_to_32(s: bytes) -> int:
    length = len(s)
    mul = (_K2 + length * 2) & _MASK
    a = (_fetch64(s) * _K1) & _MASK
    b = _fetch64(s, 8)
    c = (_fetch64(s, length - 8) * mul) & _MASK
    d = (_fetch64(s, length - 16) * _K2) & _MASK
    u = (_rotate((a + b) & _MASK, 43) + _rotate(c, 30) + d) & _MASK
    v = (a + _rotate((b + _K2) & _MASK, 18) + c) & _MASK
    return _hash_len_16(u, v, mul)


def _hash_len_33_to_64(s: bytes) -> int:
    length = len(s)
    mul = (_K2 + length * 2) & _MASK
    a = (_fetch64(s) * _K2) & _MASK
    b = _fetch64(s, 8)
    c = (_fetch64(s, length - 8) * mul) & _MASK
    d = (_fetch64(s, length - 16) * _K2) & _MASK
    y = (_rotate((a + b) & _MASK, 43) + _rotate(c, 30) + d) & _MASK
    z = _hash_len_16(y, (a + _rotate((b + _K2) & _MASK, 18) + c) & _MASK, mul)
    e = (_fetch64(s, 16) * mul) & _MASK
    f = _fetch64(s, 24)
    g = ((y + _fetch64(s, length - 32)) * mul) & _MASK
    h = ((z + _fetch64(s, length - 24)) * mul) & _MASK
    u = (_rotate((e + f) & _MASK, 43) + _rotate(g, 30) + h) & _MASK
    v = (e + _rotate((f + a) & _MASK, 18) + g) & _MASK
    return _hash_len_16(u, v, mul)


def _weak_hash_len_32_with_seeds(s: bytes, offset: int, a: int, b: int) -> tuple[int, int]:
    w, x, y, z = struct.unpack_from("<4Q", s, offset)
    a = (a + w) & _MASK
    b = _rotate((b + a + z) & _MASK, 21)
    c = a
    a = (a + x + y) & _MASK
    b = (b + _rotate(a, 44)) & _MASK
    return (a + z) & _MASK, (b + c) & _MASK


def _hash_long(s: bytes) -> int:
    """Hash more than 64 bytes: 56 bytes of state, 64 bytes a turn; the last 64 bytes are hashed with another multiplier."""
    x = _SEED
    y = (_SEED * _K1 + 113) & _MASK
    z = (_shift_mix((y * _K2 + 113) & _MASK) * _K2) & _MASK
    v = w = (0, 0)
    x = (x * _K2 + _fetch64(s)) & _MASK
    for offset in range(0, (len(s) - 1) // 64 * 64, 64):
        x, y, z, v, w = _turn(s, offset, x, y, z, v, w, mul=_K1, weight=1)
    mul = (_K1 + ((z & 0xFF) << 1)) & _MASK
    w = ((w[0] + ((len(s) - 1) & 63)) & _MASK, w[1])
    v = ((v[0] + w[0]) & _MASK, v[1])
    w = ((w[0] + v[0]) & _MASK, w[1])
    x, y, z, v, w = _turn(s, len(s) - 64, x, y, z, v, w, mul=mul, weight=9)
    low = (_hash_len_16(v[0], w[0], mul) + _shift_mix(y) * _K0 + z) & _MASK
    return _hash_len_16(low, (_hash_len_16(v[1], w[1], mul) + x) & _MASK, mul)


def _turn(
    s: bytes, offset: int, x: int, y: int, z: int, v: tuple[int, int], w: tuple[int, int], *, mul: int, weight: int
) -> tuple[int, int, int, tuple[int, int], tuple[int, int]]:
    """Mix one block of 64 bytes; `weight` is 1 within the loop and 9 for the last block."""
    x = (_rotate((x + y + v[0] + _fetch64(s, offset + 8)) & _MASK, 37) * mul) & _MASK
    y = (_rotate((y + v[1] + _fetch64(s, offset + 48)) & _MASK, 42) * mul) & _MASK
    x ^= (w[1] * weight) & _MASK
    y = (y + v[0] * weight + _fetch64(s, offset + 40)) & _MASK
    z = (_rotate((z + w[0]) & _MASK, 33) * mul) & _MASK
    v = _weak_hash_len_32_with_seeds(s, offset, (v[1] * mul) & _MASK, (x + w[0]) & _MASK)
    w = _weak_hash_len_32_with_seeds(s, offset + 32, (z + w[1]) & _MASK, (y + _fetch64(s, offset + 16)) & _MASK)
    return z, y, x, v, w
