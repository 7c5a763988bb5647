"""The rows left for a smoke test are rows that a server accepts."""

import numpy as np

from trainer.babyweight import SPEC
from trainer.data import CategoryColumn, Columns
from trainer.export import smoke_sample
from trainer.manifest import Manifest

MANIFEST = Manifest(
    uri="d",
    train_files=(),
    train_rows=0,
    eval_files=(),
    eval_rows=0,
    numbers={},
    categories={"is_male": {"True": 1, "Unknown": 1}, "plurality": {"Single(1)": 1}},
    units={},
    digest="",
)


def test_rows_that_a_server_would_refuse_are_left_out() -> None:
    """Unknown categories and numbers out of bounds are no smoke test; each known category has a row."""
    raw: Columns = {
        "is_male": CategoryColumn(["True", "Unknown"], np.array([0] * 20 + [1, 0, 0], np.int32)),
        "plurality": CategoryColumn(["Single(1)", "Sextuplets(6)"], np.array([0] * 21 + [1, 0], np.int32)),
        "mother_age": np.full(23, 30, np.float32),
        "gestation_weeks": np.array([39] * 22 + [3], np.float32),
    }
    sample = smoke_sample(raw, np.arange(23, dtype=np.float32), SPEC, MANIFEST)
    assert sample["predictions"] == [0, 1, 2, 3, 4, 5, 6, 7, 20]
    assert sample["instances"][-1] == {
        "is_male": "Unknown",
        "mother_age": 30,
        "plurality": "Single(1)",
        "gestation_weeks": 39,
    }
