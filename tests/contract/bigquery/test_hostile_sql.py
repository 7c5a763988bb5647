"""SQL that tries to get out: to files, settings, the engine's own tables. Every door is shut."""

from pathlib import Path

import pytest
from google.api_core.exceptions import GoogleAPICallError
from google.cloud import bigquery


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('{secret}')",
        "SELECT * FROM read_text('{secret}')",
        "SELECT * FROM read_blob('{secret}')",
        "SELECT * FROM read_parquet('{secret}')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM '{secret}'",
        "SELECT * FROM `{secret}`",
        "SELECT * FROM sniff_csv('{secret}')",
        "SELECT * FROM query('SELECT 1')",
        "SELECT * FROM query_table('meta.jobs')",
        "SELECT * FROM duckdb_settings()",
        "SELECT * FROM duckdb_tables()",
        "SELECT * FROM pragma_table_info('x')",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM pg_catalog.pg_tables",
        "SELECT * FROM sqlite_master",
        "SELECT * FROM meta.jobs",
        "SELECT * FROM `meta`.`jobs`",
        "SELECT * FROM main.meta.jobs",
        "SELECT * FROM `bigquery.meta.jobs`",
        "WITH sqlite_master AS (SELECT * FROM sqlite_master) SELECT * FROM sqlite_master",
        "WITH a AS (SELECT * FROM b), b AS (SELECT 1) SELECT * FROM a",
        "SELECT (SELECT COUNT(*) FROM read_csv('{secret}'))",
        "SELECT 1 WHERE EXISTS(SELECT * FROM read_csv('{secret}'))",
        "SELECT * FROM UNNEST((SELECT ARRAY_AGG(x) FROM read_text('{secret}') AS x))",
        "SELECT getenv('HOME')",
        "SELECT current_setting('temp_directory')",
        "SELECT current_database()",
        "SELECT getvariable('x')",
        "SELECT write_log('x')",
        "SELECT nextval('x')",
        "SELECT bq_offset([1], 0, 0)",
        "ATTACH '{secret}'",
        "ATTACH DATABASE '{secret}' AS x",
        "DETACH bigquery",
        "COPY (SELECT 1) TO '{out}'",
        "COPY meta.jobs TO '{out}'",
        "EXPORT DATABASE '{out}'",
        "EXPORT DATA OPTIONS(uri='{out}', format='CSV') AS SELECT 1",
        "IMPORT DATABASE '{out}'",
        "PRAGMA database_list",
        "PRAGMA enable_external_access",
        "SET enable_external_access = true",
        "SET GLOBAL memory_limit = '100GB'",
        "RESET enable_external_access",
        "INSTALL httpfs",
        "LOAD httpfs",
        "LOAD DATA INTO x.y FROM FILES(format='CSV', uris=['{secret}'])",
        "CREATE MACRO x() AS 1",
        "CREATE FUNCTION x() AS (1)",
        "CREATE SECRET x (TYPE s3)",
        "CREATE TABLE meta.jobs AS SELECT 1",
        "DROP TABLE meta.jobs",
        "DELETE FROM meta.jobs WHERE TRUE",
        "UPDATE meta.jobs SET state = 'DONE' WHERE TRUE",
        "INSERT INTO meta.jobs (project) VALUES ('x')",
        "TRUNCATE TABLE meta.jobs",
        "CALL pragma_version()",
        "CHECKPOINT",
        "VACUUM",
        "DESCRIBE meta.jobs",
        "SHOW TABLES",
        "EXPLAIN SELECT 1",
        "SELECT 1; ATTACH '{secret}'",
        "SELECT 1 INTO x",
        "BEGIN TRANSACTION",
        "COMMIT",
        "SELECT * FROM EXTERNAL_QUERY('x', 'SELECT 1')",
        "SELECT * FROM ML.PREDICT(MODEL x.y, (SELECT 1))",
    ],
)
def test_every_way_out_is_refused(client: bigquery.Client, tmp_path: Path, sql: str) -> None:
    """The statement fails with a 4xx or 501, nothing of the file is told, and no file is made."""
    secret = tmp_path / "secret.csv"
    secret.write_text("password,hunter2\n")
    out = tmp_path / "out"
    text = sql.replace("{secret}", str(secret)).replace("{out}", str(out))
    with pytest.raises(GoogleAPICallError) as caught:
        client.query(text, job_retry=None).result(retry=None)
    assert caught.value.code in (400, 404, 501)
    assert "hunter2" not in str(caught.value)
    assert not out.exists()


@pytest.mark.parametrize(
    "text",
    [
        "it's",
        'say "hi"',
        "back\\slash",
        "line\nbreak",
        "semi;colon -- /* comment */",
        "$1 ? @x {} %s",
        "ünïcödé 数据 🍼",
        "'); DROP TABLE x; --",
        "\\'); DROP TABLE x; --",
        "tab\tend",
    ],
)
def test_a_text_stays_a_text(client: bigquery.Client, text: str) -> None:
    """Whatever is in a literal comes back as it was, from each kind of quotes."""
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
    single, double = escaped.replace("'", "\\'"), escaped.replace('"', '\\"')
    triple = escaped.replace('"', '\\"')
    rows = client.query(f'SELECT \'{single}\', "{double}", """{triple}"""').result()
    assert [tuple(row) for row in rows] == [(text, text, text)]


def test_deep_nesting_is_refused_not_crashed(client: bigquery.Client) -> None:
    """A query that nests thousands deep is an error; the server goes on."""
    with pytest.raises(GoogleAPICallError):
        client.query(f"SELECT {'(' * 5000}1{')' * 5000}", job_retry=None).result(retry=None)
    assert [row.a for row in client.query("SELECT 1 AS a").result()] == [1]
