"""No Beam: the same examples with pyarrow alone, one table in and two files out; no rejects, statistics or digest."""

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam.split import is_training

PLURALITIES = pa.array(
    ["Single(1)", "Twins(2)", "Triplets(3)", "Quadruplets(4)", "Quintuplets(5)", "Multiple(2+)"], pa.string()
)
SEXES = pa.array(["True", "False", "Unknown"], pa.string())
NUMBERS = ("weight_pounds", "mother_age", "gestation_weeks")
POSITIVE = ("weight_pounds", "mother_age", "plurality", "gestation_weeks", "month")


def work(source: str, output: str) -> int:
    """Preprocess; return the rows written."""
    births = good_births(pq.read_table(source))
    mask = training_mask(births)
    rows = 0
    for name, chosen in (("train", mask), ("eval", pc.invert(mask))):
        views = both_views(births.filter(chosen))
        pq.write_table(views, f"{output}/{name}.parquet", store_schema=False)
        rows += len(views)
    return rows


def good_births(table: pa.Table) -> pa.Table:
    """Filter as the tutorial's query does."""
    good = pc.greater(table["year"], 2000)
    for name in POSITIVE:
        good = pc.and_(good, pc.greater(table[name], 0))
    return table.filter(good)


def training_mask(births: pa.Table) -> pa.ChunkedArray:
    """Hash the distinct months and gather."""
    key = pc.add(pc.multiply(births["year"], 100), births["month"])
    keys = pc.unique(key)
    trains = [is_training(f"{value // 100}{value % 100}") for value in keys.to_pylist()]
    return pc.take(pa.array(trains), pc.index_in(key, keys))


def both_views(births: pa.Table) -> pa.Table:
    """Return the rows with ultrasound, then those without."""
    numbers = {name: births[name].cast(pa.float32()) for name in NUMBERS}
    unknown = pa.chunked_array([pa.repeat(pa.scalar(2, pa.int8()), len(births))])
    several = pc.if_else(pc.greater(births["plurality"], 1), 5, 0)
    known = {
        "is_male": coded(pc.if_else(births["is_male"], 0, 1), SEXES),
        "plurality": coded(pc.subtract(births["plurality"], 1), PLURALITIES),
    }
    without = {"is_male": coded(unknown, SEXES), "plurality": coded(several, PLURALITIES)}
    return pa.concat_tables([pa.table(numbers | known), pa.table(numbers | without)])


def coded(codes: pa.ChunkedArray, values: pa.Array) -> pa.ChunkedArray:
    """Return text as codes and values, which Parquet takes as they are."""
    chunks = [pa.DictionaryArray.from_arrays(chunk, values) for chunk in codes.cast(pa.int8()).chunks]
    return pa.chunked_array(chunks, pa.dictionary(pa.int8(), pa.string()))
