"""FARM_FINGERPRINT: BigQuery's documented answers, and FarmHash's own for every branch of the algorithm."""

import pytest

from beam.farmhash import farm_fingerprint, fingerprint64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1footrue", -1541654101129638711),
        ("2applefalse", 2794438866806483259),
        ("3true", -4880158226897771312),
    ],
)
def test_bigquery_documented_values(text: str, expected: int) -> None:
    """The example rows of BigQuery's reference, (x, y, z) concatenated, hash to the values printed there."""
    assert farm_fingerprint(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", -7286425919675154353),
        ("a", -5528939962900187677),
        ("ab", -6157143815960550114),
        ("Hello, world", -5504799869785660699),
        ("x" * 17, -7140662122295251035),
        ("the quick brown fox jumps over the lazy dog", -6022993002709117997),
        ("y" * 64, 4471793200125962424),
        ("z" * 65, 8299915583762718517),
        ("0123456789" * 13, -7725969016185070332),
    ],
)
def test_every_length_branch_agrees_with_the_reference_implementation(text: str, expected: int) -> None:
    """Each branch (0, 1-3, 4-7, 8-16, 17-32, 33-64, over 64 bytes) gives what Google's C++ gives (pyfarmhash 0.5.1)."""
    assert farm_fingerprint(text) == expected


def test_text_is_hashed_as_utf8_and_the_sign_is_the_top_bit() -> None:
    """A string hashes as its UTF-8 bytes, and the signed answer is the unsigned one in two's complement."""
    assert farm_fingerprint("é") == farm_fingerprint("é".encode())
    assert farm_fingerprint("3true") % (1 << 64) == fingerprint64(b"3true")
