"""GoogleSQL functions that DuckDB lacks or answers differently, installed at the opening of the database.

Macros live in the schema `main` of the database file and are replaced at each opening, so an old file gets today's set.
"""

from __future__ import annotations

from typing import Any

# Each name begins with bq_, so that none shadows a function of DuckDB's.
_MACROS = (
    "bq_offset(arr, idx, base) AS CASE WHEN idx IS NULL OR arr IS NULL THEN NULL "
    "WHEN idx < base OR idx - base >= len(arr) "
    "THEN error(printf('Array index %d is out of bounds', CAST(idx AS BIGINT))) ELSE arr[idx - base + 1] END",
    "bq_ieee_divide(a, b) AS CASE WHEN CAST(b AS DOUBLE) <> 0 THEN a / b WHEN a IS NULL OR b IS NULL THEN NULL "
    "WHEN CAST(a AS DOUBLE) > 0 THEN CAST('inf' AS DOUBLE) WHEN CAST(a AS DOUBLE) < 0 THEN CAST('-inf' AS DOUBLE) "
    "ELSE CAST('nan' AS DOUBLE) END",
)


def install(connection: Any) -> None:
    """Create the macros and register FARM_FINGERPRINT."""
    for macro in _MACROS:
        connection.execute(f"CREATE OR REPLACE MACRO main.{macro}")
    # "default" null handling: DuckDB answers NULL for NULL and never hands one over.
    connection.create_function("farm_fingerprint", _fingerprint, ["VARCHAR"], "BIGINT", type="arrow")


def _fingerprint(values: Any) -> Any:
    """FARM_FINGERPRINT over a column: each distinct text is hashed once per chunk.

    A column that is split upon (year and month, say) has few distinct values; one of ids has many. Either way a chunk
    costs a few dozen vector instructions.
    """
    import pyarrow as pa

    from localcloud.bigquery.fingerprint import fingerprint_array

    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    return pa.array(fingerprint_array(values))
