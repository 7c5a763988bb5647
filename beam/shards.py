"""The pieces that a source is cut into: each is read whole, by one DoFn, as a few large batches of columns.

One element of the pipeline is one shard, never one row: a Python object for each row is what makes the usual pipeline
a hundred times slower than the columns underneath.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam import rejects
from beam.errors import UnsupportedSource

Columns = Mapping[str, pa.DataType]  # the columns that a pipeline needs, and the type that a text file's values have


@dataclass(frozen=True)
class Batch:
    """Rows of a shard as columns.

    Attributes:
        records: the columns that were asked for, in any type that the source gives; a faulty text file gives text.
        rows: int64, shape (records,): the number of each record within the shard, from 0.
        broken: rows that could not be told apart into columns, as `rejects.SCHEMA`.
    """

    records: pa.RecordBatch
    rows: npt.NDArray[np.int64]
    broken: pa.Table = field(default_factory=lambda: rejects.NOTHING)

    @property
    def input_rows(self) -> int:
        """Rows of the source that this batch stands for, the broken ones among them."""
        return len(self.rows) + len(self.broken)


def check_types(source: str, schema: pa.Schema, columns: Columns) -> None:
    """Refuse columns that hold lists or records: no rule could say what is wrong with such a value.

    Raises:
        UnsupportedSource: a column is nested.
    """
    for name in columns:
        kind = schema.field(name).type
        if pa.types.is_nested(kind):
            raise UnsupportedSource(f"source {source!r} holds {kind} in the column {name}; give it one value a row")


class Shard(ABC):  # not a Protocol: Beam checks elements against it with issubclass, which those refuse
    """A piece of a source that one worker reads by itself, to the same result each time."""

    @property
    @abstractmethod
    def place(self) -> str:
        """What a reject names as its source: the file, the table or the stream."""

    @property
    @abstractmethod
    def rows_before(self) -> int | None:
        """Rows of `place` before this shard; None: the sum of the shards of the same place before it."""

    @property
    @abstractmethod
    def header_lines(self) -> int:
        """Lines of `place` before its first row; 0 where there are no lines."""

    @abstractmethod
    def batches(self) -> Iterator[Batch]:
        """Read the rows, in the order of the source."""
