"""FARM_FINGERPRINT, held to BigQuery's documented values and to the reference library's for every kind of length."""

import random

import pyarrow as pa
import pytest

from localcloud.bigquery.fingerprint import farm_fingerprint, fingerprint_array

# From BigQuery's documentation of FARM_FINGERPRINT: CONCAT(CAST(x AS STRING), y, CAST(z AS STRING)) of three rows.
DOCUMENTED = {
    b"1footrue": -1541654101129638711,
    b"2applefalse": 2794438866806483259,
    b"3true": -4880158226897771312,
}

# Made with FarmHash's own Fingerprint64 (through its C++ binding), one for each branch of the algorithm and its edges.
REFERENCE = {
    0: -7286425919675154353,
    1: 5161771770385946686,
    3: 4662423180930907492,
    4: -4537394985603375512,
    7: -1213320135268888312,
    8: -5819723932424764888,
    16: -8559720852926948904,
    17: -1486675654071531889,
    32: 3992320350721670009,
    33: -5989673365922940211,
    64: -7363680011876853524,
    65: 444801980686921533,
    127: 5926385096735868780,
    128: -2607887959938339383,
    129: 5067021833811671751,
    200: 202520530910294351,
    1000: -4335749488893156800,
}


def test_documented_values_are_met() -> None:
    """The three values in BigQuery's documentation come out, negative ones included."""
    assert farm_fingerprint(list(DOCUMENTED)) == list(DOCUMENTED.values())


@pytest.mark.parametrize("length", REFERENCE)
def test_every_branch_equals_the_reference(length: int) -> None:
    """A text of each length class hashes as FarmHash's reference does."""
    text = bytes((index * 7 + length) % 256 for index in range(length))
    assert farm_fingerprint([text]) == [REFERENCE[length]]


def test_a_hash_does_not_depend_on_its_neighbours() -> None:
    """Hashed together in any order, or alone: a text has one fingerprint."""
    seed = 20221
    print(f"seed {seed}")
    source = random.Random(seed)
    texts = [source.randbytes(source.randrange(0, 300)) for _ in range(200)]
    together = farm_fingerprint(texts)
    assert together == [farm_fingerprint([text])[0] for text in texts]
    assert farm_fingerprint(texts[::-1]) == together[::-1]


def test_a_slice_of_a_column_is_read_from_its_own_offset() -> None:
    """An Arrow slice hashes the rows it shows, not those at the start of its buffer."""
    column = pa.array(["a", "bb", "ccc", "dddd"])
    assert fingerprint_array(column.slice(2)).tolist() == farm_fingerprint([b"ccc", b"dddd"])


def test_an_empty_column_has_no_hashes() -> None:
    """No rows in, no rows out."""
    assert fingerprint_array(pa.array([], pa.string())).tolist() == []
