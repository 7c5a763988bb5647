"""The tutorial's way: Beam, a dict for each row, two deep copies, a SHA-224 for each row written, CSV text.

What BigQuery does in the tutorial (the filter and FARM_FINGERPRINT) is done here on whole columns, which takes no
time beside the rest, so that only the tutorial's own Python is measured. Source:
GoogleCloudPlatform/training-data-analyst, blogs/babyweight_keras, `to_csv` and `preprocess`, in our own words.
"""

# Beam is typed in part only.
# mypy: disable-error-code="no-untyped-call"
import copy
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.options.pipeline_options import PipelineOptions

from beam.split import training_mask

COLUMNS = ("weight_pounds", "is_male", "mother_age", "plurality", "gestation_weeks")
PLURALITIES = ("Single(1)", "Twins(2)", "Triplets(3)", "Quadruplets(4)", "Quintuplets(5)")


def work(source: str, output: str) -> int:
    """Preprocess; return the rows written."""
    with beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"])) as pipeline:
        for step in ("train", "eval"):
            (
                pipeline
                | f"Create {step}" >> beam.Create([step == "train"])
                | f"Read {step}" >> beam.FlatMap(lambda is_training: query(source, is_training))
                | f"To CSV {step}" >> beam.FlatMap(to_csv)
                | f"Write {step}" >> beam.io.WriteToText(f"{output}/{step}", file_name_suffix=".csv")
            )
    return sum(path.read_bytes().count(b"\n") for path in Path(output).glob("*.csv"))


def query(source: str, is_training: bool) -> Iterator[dict[str, Any]]:
    """Answer the rows of one split as dicts, as ReadFromBigQuery does."""
    table = pq.read_table(source)
    mask = training_mask(table["year"].combine_chunks(), table["month"].combine_chunks())
    yield from table.filter(pa.array(mask if is_training else ~mask)).to_pylist()


def to_csv(row: dict[str, Any]) -> Iterator[str]:
    """Turn a birth into its two lines of text, each with its own hash."""
    without, with_ultrasound = copy.deepcopy(row), copy.deepcopy(row)
    without["is_male"] = "Unknown"
    without["plurality"] = "Multiple(2+)" if row["plurality"] > 1 else "Single(1)"
    with_ultrasound["plurality"] = PLURALITIES[row["plurality"] - 1]
    for result in (without, with_ultrasound):
        data = ",".join(str(result[name]) for name in COLUMNS)
        yield f"{data},{hashlib.sha224(data.encode('utf-8')).hexdigest()}"
