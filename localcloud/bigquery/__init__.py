"""The local BigQuery: Google's REST v2 and Storage Read protocols outside, DuckDB and sqlglot inside."""

from localcloud.bigquery.server import BigQueryServer

__all__ = ["BigQueryServer"]
