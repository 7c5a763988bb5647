"""The repeatable split into training and evaluation rows: by a hash of a key, as the same query gives it in BigQuery.

Only the distinct keys are hashed (a few hundred months among millions of rows) and the answers are gathered, which is
why this costs nothing. BigQuery's FARM_FINGERPRINT is signed and its MOD keeps the sign of the dividend: computed
unsigned, the same expression puts 26 of 96 months on the wrong side.
"""

import functools
import math

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam.farmhash import farm_fingerprint

BUCKETS = 4
TRAINING_BUCKETS = 3  # buckets 0, 1 and 2 train, bucket 3 evaluates: the original's three quarters


def bucket(key: str) -> int:
    """Return `ABS(MOD(FARM_FINGERPRINT(key), 4))`.

    The sign that BigQuery's MOD keeps is dropped by ABS, so this is the magnitude of the signed hash modulo 4: not
    the same as the modulo of the unsigned hash, nor as Python's `%` of a negative number.
    """
    return abs(farm_fingerprint(key)) % BUCKETS


@functools.lru_cache(maxsize=100_000)
def is_training(key: str) -> bool:
    """Say whether rows with this key belong to the training split."""
    return bucket(key) < TRAINING_BUCKETS


def training_mask(*parts: pa.Array) -> npt.NDArray[np.bool_]:
    """Say for each row whether it trains; the key of a row is the concatenation of its parts as decimal strings.

    Args:
        parts: integer columns of one length without nulls, in the order of BigQuery's CONCAT.

    Returns:
        bool, shape (rows,).
    """
    codes, radices, values = np.zeros(len(parts[0]), dtype=np.int64), [], []
    for part in parts:
        encoded = pc.dictionary_encode(part)
        values.append([str(value) for value in encoded.dictionary.to_pylist()])
        radices.append(len(values[-1]))
        codes = codes * radices[-1] + encoded.indices.to_numpy()
    answers = np.zeros(math.prod(radices), dtype=np.bool_)
    for code in np.flatnonzero(np.bincount(codes)):  # only the combinations that occur
        digits = np.unravel_index(code, radices)
        answers[code] = is_training("".join(values[part][digit] for part, digit in enumerate(digits)))
    return answers[codes]
