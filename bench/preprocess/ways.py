"""One way of preprocessing, in a process of its own: `python -m bench.preprocess.ways WAY SOURCE OUTPUT`.

It prints one JSON object: seconds from the end of the imports to the end of the work, rows written, and peak memory. The
process's whole life is measured from outside.
"""

# Beam is typed in part only.
# mypy: disable-error-code="no-untyped-call"
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def original(source: str, output: str) -> Callable[[], int]:
    """The tutorial's way: Beam, a dict for each row, two deep copies, a SHA-224 for each row written, CSV text.

    What BigQuery does in the tutorial (the filter and FARM_FINGERPRINT) is done here on whole columns before the clock can
    notice, so that only the tutorial's own Python is measured. Source: GoogleCloudPlatform/training-data-analyst,
    blogs/babyweight_keras, `to_csv` and `preprocess`, in our own words.
    """
    import copy
    import hashlib

    import apache_beam as beam
    import pyarrow.parquet as pq
    from apache_beam.options.pipeline_options import PipelineOptions

    from beam.split import training_mask

    columns = ["weight_pounds", "is_male", "mother_age", "plurality", "gestation_weeks"]
    names = ["Single(1)", "Twins(2)", "Triplets(3)", "Quadruplets(4)", "Quintuplets(5)"]

    def query(is_training: bool) -> Iterator[dict[str, Any]]:
        table = pq.read_table(source)
        mask = training_mask(table["year"].combine_chunks(), table["month"].combine_chunks())
        yield from table.filter(mask if is_training else ~mask).to_pylist()

    def to_csv(row: dict[str, Any]) -> Iterator[str]:
        without, with_ultrasound = copy.deepcopy(row), copy.deepcopy(row)
        without["is_male"] = "Unknown"
        without["plurality"] = "Multiple(2+)" if row["plurality"] > 1 else "Single(1)"
        with_ultrasound["plurality"] = names[row["plurality"] - 1]
        for result in (without, with_ultrasound):
            data = ",".join(str(result[name]) for name in columns)
            yield f"{data},{hashlib.sha224(data.encode('utf-8')).hexdigest()}"

    def work() -> int:
        with beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"])) as pipeline:
            for step in ("train", "eval"):
                (
                    pipeline
                    | f"Create {step}" >> beam.Create([step == "train"])
                    | f"Read {step}" >> beam.FlatMap(query)
                    | f"To CSV {step}" >> beam.FlatMap(to_csv)
                    | f"Write {step}" >> beam.io.WriteToText(f"{output}/{step}", file_name_suffix=".csv")
                )
        return sum(path.read_bytes().count(b"\n") for path in Path(output).glob("*.csv"))

    return work


def arrow(source: str, output: str) -> Callable[[], int]:
    """No Beam: the same rows with pyarrow alone, one table in and two files out; no rejects, statistics or digest."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from beam.split import is_training

    names = pa.array(["Single(1)", "Twins(2)", "Triplets(3)", "Quadruplets(4)", "Quintuplets(5)", "Multiple(2+)"])
    sexes = pa.array(["True", "False", "Unknown"])

    def coded(codes: pa.ChunkedArray, values: pa.Array) -> pa.ChunkedArray:
        chunks = [pa.DictionaryArray.from_arrays(chunk, values) for chunk in codes.cast(pa.int8()).chunks]
        return pa.chunked_array(chunks, pa.dictionary(pa.int8(), pa.string()))

    def both_views(births: pa.Table) -> pa.Table:
        numbers = {name: births[name].cast(pa.float32()) for name in ("weight_pounds", "mother_age", "gestation_weeks")}
        unknown = pa.chunked_array([pa.repeat(pa.scalar(2, pa.int8()), len(births))])
        several = pc.if_else(pc.greater(births["plurality"], 1), 5, 0)
        known = {
            "is_male": coded(pc.if_else(births["is_male"], 0, 1), sexes),
            "plurality": coded(pc.subtract(births["plurality"], 1), names),
        }
        without = {"is_male": coded(unknown, sexes), "plurality": coded(several, names)}
        return pa.concat_tables([pa.table(numbers | known), pa.table(numbers | without)])

    def work() -> int:
        table = pq.read_table(source)
        positive = ["weight_pounds", "mother_age", "plurality", "gestation_weeks", "month"]
        good = pc.greater(table["year"], 2000)
        for name in positive:
            good = pc.and_(good, pc.greater(table[name], 0))
        births = table.filter(good)
        key = pc.add(pc.multiply(births["year"], 100), births["month"])
        keys = pc.unique(key)
        trains = [is_training(f"{value // 100}{value % 100}") for value in keys.to_pylist()]
        mask = pc.take(pa.array(trains), pc.index_in(key, keys))
        rows = 0
        for name, chosen in (("train", mask), ("eval", pc.invert(mask))):
            views = both_views(births.filter(chosen))
            pq.write_table(views, f"{output}/{name}.parquet", store_schema=False)
            rows += len(views)
        return rows

    return work


def ours(source: str, output: str) -> Callable[[], int]:
    """`python -m beam.babyweight`: rejects, statistics, digest and manifest included; planning and graph too."""
    from beam import babyweight

    def work() -> int:
        exit_code = babyweight.main([f"--source={source}", f"--output={output}", "--runner=FnApiRunner"])
        if exit_code:
            raise SystemExit(exit_code)
        manifest = json.loads((Path(output) / "manifest.json").read_text())
        return int(manifest["train"]["rows"] + manifest["eval"]["rows"])

    return work


WAYS = {"original": original, "arrow": arrow, "ours": ours}


def main(way: str, source: str, output: str) -> None:
    """Import, then work, and say how long the work took."""
    work = WAYS[way](source, output)
    began_at = time.perf_counter()
    rows = work()
    run_s = time.perf_counter() - began_at
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"run_s": run_s, "rows_written": rows, "peak_mib": peak_mib}))


if __name__ == "__main__":
    main(*sys.argv[1:])
