"""Births for the benchmark: real ones drawn again and again, with seeded years and months, good rows only."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

SAMPLE_CSV = Path(__file__).parents[2] / "samples" / "natality_2022.csv"
YEARS = (2001, 2008)  # the years of the tutorial's data, so that the split has 96 months to tell apart


def births(rows: int, seed: int) -> pa.Table:
    """Return `rows` births drawn with repetition from the sample's complete ones."""
    generator = np.random.default_rng(seed)
    complete = pacsv.read_csv(SAMPLE_CSV).drop_null()
    drawn = complete.take(pa.array(generator.integers(0, len(complete), rows)))
    years = pa.array(generator.integers(YEARS[0], YEARS[1] + 1, rows))
    months = pa.array(generator.integers(1, 13, rows))
    return drawn.set_column(0, "year", years).set_column(1, "month", months).combine_chunks()


def write(directory: Path, rows: int, original_rows: int, seed: int) -> None:
    """Write births.parquet and births.csv, and for the slow ways few.* and fewer.*, a tenth of that."""
    table = births(rows, seed)
    for name, count in (("births", rows), ("few", original_rows), ("fewer", original_rows // 10)):
        pq.write_table(table.slice(0, count), directory / f"{name}.parquet")
        pacsv.write_csv(table.slice(0, count), directory / f"{name}.csv")
