"""The tutorial's way: Beam, a dict for each row, two deep copies, a SHA-224 for each row written, CSV text.

In the tutorial BigQuery filters the rows, hashes the months and hands over dicts. Here they come in one of two ways:

- `from_memory`: the dicts of a split, already chosen, are handed to Beam by `Create`, as one runs the tutorial without
  BigQuery. Beam encodes and decodes each dict once.
- `from_csv`: everything row by row, from a file to files: parse the line, filter, hash the month, then as above.

Source: GoogleCloudPlatform/training-data-analyst, blogs/babyweight_keras, `to_csv` and `preprocess`, in our own words.
"""

# Beam is typed in part only.
# mypy: disable-error-code="no-untyped-call"
import copy
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.options.pipeline_options import PipelineOptions

from beam.split import is_training, training_mask

COLUMNS = ("weight_pounds", "is_male", "mother_age", "plurality", "gestation_weeks")
POSITIVE = ("weight_pounds", "mother_age", "plurality", "gestation_weeks", "month")
PLURALITIES = ("Single(1)", "Twins(2)", "Triplets(3)", "Quadruplets(4)", "Quintuplets(5)")
STEPS = ("train", "eval")


def from_memory(source: str, output: str) -> int:
    """Preprocess a Parquet file's rows; return the rows written."""
    table = pq.read_table(source)
    mask = training_mask(table["year"].combine_chunks(), table["month"].combine_chunks())
    with beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"])) as pipeline:
        for step in STEPS:
            rows = table.filter(pa.array(mask if step == "train" else ~mask)).to_pylist()
            _write(pipeline | f"Create {step}" >> beam.Create(rows), step, output)
    return _rows_written(output)


def from_csv(source: str, output: str) -> int:
    """Preprocess a CSV file; return the rows written."""
    with beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"])) as pipeline:
        for step in STEPS:
            births = (
                pipeline
                | f"Read {step}" >> beam.io.ReadFromText(source, skip_header_lines=1)
                | f"Parse {step}" >> beam.Map(parse)
                | f"Good {step}" >> beam.Filter(is_good)
                | f"Split {step}" >> beam.Filter(is_in, step)
            )
            _write(births, step, output)
    return _rows_written(output)


def parse(line: str) -> dict[str, Any]:
    """Turn a line into a row."""
    year, month, weight, is_male, age, plurality, weeks = line.split(",")
    return {
        "year": int(year),
        "month": int(month),
        "weight_pounds": float(weight),
        "is_male": is_male == "true",
        "mother_age": int(age),
        "plurality": int(plurality),
        "gestation_weeks": int(weeks),
    }


def is_good(row: dict[str, Any]) -> bool:
    """Filter as the tutorial's query does."""
    return row["year"] > 2000 and all(row[name] > 0 for name in POSITIVE)


def is_in(row: dict[str, Any], step: str) -> bool:
    """Split as the tutorial's query does; a month is hashed once only, which is kind."""
    return _trains(row["year"], row["month"]) == (step == "train")


@functools.cache
def _trains(year: int, month: int) -> bool:
    return is_training(f"{year}{month}")


def to_csv(row: dict[str, Any]) -> Iterator[str]:
    """Turn a birth into its two lines of text, each with its own hash."""
    without, with_ultrasound = copy.deepcopy(row), copy.deepcopy(row)
    without["is_male"] = "Unknown"
    without["plurality"] = "Multiple(2+)" if row["plurality"] > 1 else "Single(1)"
    with_ultrasound["plurality"] = PLURALITIES[row["plurality"] - 1]
    for result in (without, with_ultrasound):
        data = ",".join(str(result[name]) for name in COLUMNS)
        yield f"{data},{hashlib.sha224(data.encode('utf-8')).hexdigest()}"


def _write(rows: Any, step: str, output: str) -> None:
    (
        rows
        | f"To CSV {step}" >> beam.FlatMap(to_csv)
        | f"Write {step}" >> beam.io.WriteToText(f"{output}/{step}", file_name_suffix=".csv")
    )


def _rows_written(output: str) -> int:
    return sum(path.read_bytes().count(b"\n") for path in Path(output).glob("*.csv"))
