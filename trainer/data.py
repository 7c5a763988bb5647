"""Read one dataset directory into columns in memory, and refuse what is not as its manifest says.

Columns, not rows: work per row in tf.data is what made the original input slow (38,000 examples a second against
millions by gathering from columns). Strings stay dictionary-encoded, so that each distinct value is looked up once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trainer.errors import DatasetError
from trainer.manifest import MANIFEST, REBUILD, Manifest
from trainer.spec import ModelSpec
from trainer.storage import Directory


@dataclass(frozen=True)
class CategoryColumn:
    """A string column: `values[codes[row]]` is the row's value."""

    values: list[str]
    codes: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, rows: npt.NDArray[np.int64]) -> "CategoryColumn":
        return CategoryColumn(self.values, self.codes[rows])

    def strings(self) -> list[str]:
        return [self.values[code] for code in self.codes]


Column: TypeAlias = "npt.NDArray[np.float32] | CategoryColumn"
Columns: TypeAlias = dict[str, Column]


def read_columns(directory: Directory, files: Sequence[str], rows: int, spec: ModelSpec) -> Columns:
    """Read whole Parquet files, in the order given.

    Args:
        rows: how many the manifest promises.

    Returns:
        For each column of the model: float32 of shape (rows,), or a CategoryColumn of that length.

    Raises:
        DatasetError: a file is missing or unreadable, lacks a column, holds nulls or NaN, or the rows do not add up.
    """
    table = pa.concat_tables([_read_file(directory, name, spec) for name in files])
    if len(table) != rows:
        raise DatasetError(
            f"the manifest promises {rows} rows", value=len(table), place=f"{directory.uri}: {files}", mend=REBUILD
        )
    return {
        name: _category(table[name]) if kind == "string" else table[name].to_numpy()
        for name, kind in spec.column_types.items()
    }


def _read_file(directory: Directory, name: str, spec: ModelSpec) -> pa.Table:
    place = f"{directory.uri}/{name}"
    expected = spec.column_types
    try:
        file = pq.ParquetFile(pa.BufferReader(directory.read(name)))
    except FileNotFoundError as error:
        raise DatasetError(
            "the manifest names a file that is not there", value=name, place=place, mend=REBUILD
        ) from error
    except pa.ArrowInvalid as error:
        raise DatasetError("this is not a Parquet file", value=str(error), place=place, mend=REBUILD) from error
    missing = sorted(expected.keys() - set(file.schema_arrow.names))
    if missing:
        raise DatasetError("the file lacks columns", value=missing, place=place, mend=REBUILD)
    table = file.read(columns=list(expected))
    for column, kind in expected.items():
        found = table.schema.field(column).type
        fits = pa.types.is_float32(found) if kind == "float32" else _is_string(found)
        if not fits:
            raise DatasetError(f"the column {column} should be {kind}", value=str(found), place=place, mend=REBUILD)
        bad = pc.sum(pc.is_null(table[column], nan_is_null=True)).as_py() or 0
        if bad:
            raise DatasetError(
                f"the column {column} holds nulls or NaN", value=f"{bad} rows", place=place, mend=REBUILD
            )
    return table


def _is_string(kind: pa.DataType) -> bool:
    value_type = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(value_type) or pa.types.is_large_string(value_type))


def _category(column: pa.ChunkedArray) -> CategoryColumn:
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    encoded = column.unify_dictionaries().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):  # zero or several chunks stay chunked in some versions of Arrow
        encoded = encoded.chunk(0)
    return CategoryColumn(encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int32, copy=False))


def refuse_unlisted(columns: Columns, manifest: Manifest, spec: ModelSpec) -> None:
    """Every category of the training rows must be in the manifest's statistics of the training split.

    Raises:
        DatasetError: one is not, so that the manifest does not describe these files.
    """
    for name, unlisted in unknown_categories(columns, manifest, spec).items():
        raise DatasetError(
            f"the training rows hold values of {name} that the manifest's statistics do not list",
            value=unlisted,
            place=f"{manifest.uri}/{MANIFEST}, statistics.{name}.values",
            mend=REBUILD,
        )


def unknown_categories(columns: Columns, manifest: Manifest, spec: ModelSpec) -> dict[str, dict[str, int]]:
    """How many rows hold a category which the training split does not: {column: {value: rows}}; {} if none."""
    unknown: dict[str, dict[str, int]] = {}
    for category in spec.categories:
        column = columns[category.name]
        assert isinstance(column, CategoryColumn)
        counts = np.bincount(column.codes, minlength=len(column.values))
        for value, count in zip(column.values, counts.tolist(), strict=True):
            if count and value not in manifest.categories[category.name]:
                unknown.setdefault(category.name, {})[value] = count
    return unknown


def take(columns: Columns, rows: npt.NDArray[np.int64]) -> Columns:
    """The same columns, of the given rows only."""
    return {
        name: column.take(rows) if isinstance(column, CategoryColumn) else column[rows]
        for name, column in columns.items()
    }


def split_validation(
    columns: Columns, spec: ModelSpec, fraction: float = 0.1, most_rows: int = 100_000
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Set aside rows of the training split to choose the best evaluation by.

    The held-out split must not choose: a model picked by it would look better than it is. Both views of one birth fall
    on the same side, and the choice depends on the values alone, not on the order of the rows.

    Returns:
        Row numbers, int64: (to train on, to validate with), neither of them empty.

    Raises:
        DatasetError: all rows are views of one case.
    """
    hashes = _case_hashes([columns[name] for name in spec.one_case])
    rows = len(hashes)
    share = min(fraction, most_rows / rows)
    # Hashes are spread evenly, so a share of their range holds that share of the cases; sorting millions took 9 s.
    is_validation = hashes < np.uint64(share * 2.0**64)
    if is_validation.all() or not is_validation.any():
        is_validation = hashes == hashes.min()  # a handful of cases: one of them
    if is_validation.all():
        raise DatasetError(
            "the training split needs at least two different cases",
            value=1,
            place="train split",
            mend="give the preprocess stage more data",
        )
    return np.flatnonzero(~is_validation), np.flatnonzero(is_validation)


def _case_hashes(columns: Sequence[Column]) -> npt.NDArray[np.uint64]:
    """SplitMix64 over the bit patterns of float32 columns; uint64, shape (rows,). Source: Steele et al., 2014."""
    mixed: npt.NDArray[np.uint64] | None = None
    for column in columns:
        assert isinstance(column, np.ndarray)
        bits = np.ascontiguousarray(column).view(np.uint32).astype(np.uint64)
        mixed = bits if mixed is None else mixed ^ bits
        mixed = mixed + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    assert mixed is not None
    return mixed
