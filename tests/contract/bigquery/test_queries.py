"""GoogleSQL over the jobs API, by the stock client."""

import datetime
import decimal
import threading

import pytest
from google.api_core.exceptions import BadRequest, Conflict, MethodNotImplemented, NotFound
from google.cloud import bigquery


def ask(client: bigquery.Client, sql: str, **options: object) -> list[tuple[object, ...]]:
    rows = client.query(sql, job_config=bigquery.QueryJobConfig(**options)).result()
    return [tuple(row.values()) for row in rows]


@pytest.fixture
def births(client: bigquery.Client, dataset: str) -> str:
    """A small table; its name."""
    ask(
        client,
        f"CREATE TABLE {dataset}.births AS SELECT * FROM UNNEST([STRUCT(2001 AS year, 1 AS month, 7.5 AS pounds, "
        "TRUE AS is_male), (2002, 2, 6.25, FALSE), (2003, 12, NULL, NULL)])",
    )
    return f"{dataset}.births"


def test_farm_fingerprint_as_documented(client: bigquery.Client) -> None:
    """The example in BigQuery's documentation gives BigQuery's answers."""
    rows = ask(
        client,
        "WITH example AS (SELECT 1 AS x, 'foo' AS y, TRUE AS z UNION ALL SELECT 2, 'apple', FALSE UNION ALL "
        "SELECT 3, '', TRUE) SELECT x, FARM_FINGERPRINT(CONCAT(CAST(x AS STRING), y, CAST(z AS STRING))) FROM example "
        "ORDER BY x",
    )
    assert rows == [(1, -1541654101129638711), (2, 2794438866806483259), (3, -4880158226897771312)]


def test_mod_keeps_the_sign_of_the_dividend(client: bigquery.Client) -> None:
    """MOD(-7, 4) is -3, so ABS(MOD(hash, 4)) splits as in the cloud."""
    assert ask(client, "SELECT MOD(-7, 4), MOD(7, -4), ABS(MOD(-1541654101129638711, 4))") == [(-3, 3, 3)]


def test_every_type_comes_back_as_itself(client: bigquery.Client) -> None:
    """Values of each type survive the way through SQL, storage, JSON and the client."""
    rows = ask(
        client,
        "SELECT 1, -9223372036854775808, 1.5, 'it''s' || 'x', TRUE, b'\\x00\\xff', DATE '2020-02-29', "
        "TIMESTAMP '2020-01-02 03:04:05.678901+00', DATETIME '2020-01-02 03:04:05.5', TIME '10:11:12', NUMERIC '1.230', "
        "[1, 2], STRUCT(1 AS a, 'x' AS b), [STRUCT(1 AS a)], NULL, CAST(NULL AS STRING)".replace("'it''s'", '"it\'s"'),
    )
    utc = datetime.UTC
    assert rows == [
        (
            1,
            -(2**63),
            1.5,
            "it'sx",
            True,
            b"\x00\xff",
            datetime.date(2020, 2, 29),
            datetime.datetime(2020, 1, 2, 3, 4, 5, 678901, tzinfo=utc),
            datetime.datetime(2020, 1, 2, 3, 4, 5, 500000),
            datetime.time(10, 11, 12),
            decimal.Decimal("1.23"),
            [1, 2],
            {"a": 1, "b": "x"},
            [{"a": 1}],
            None,
            None,
        )
    ]


def test_floats_without_a_value_come_back(client: bigquery.Client) -> None:
    """NaN and the infinities are values of FLOAT64."""
    row = ask(
        client, "SELECT CAST('inf' AS FLOAT64), CAST('-inf' AS FLOAT64), CAST('nan' AS FLOAT64), 1e300, 0.1 + 0.2"
    )
    assert row[0][:2] == (float("inf"), float("-inf"))
    assert row[0][2] != row[0][2]
    assert row[0][3:] == (1e300, 0.30000000000000004)


def test_named_parameters_are_values_never_sql(client: bigquery.Client, births: str) -> None:
    """Scalars, arrays and structs arrive typed; a text that looks like SQL stays a text."""
    hostile = "x'; DROP TABLE births; --\\'\""
    rows = ask(
        client,
        f"SELECT @text, @number + 1, @day, ARRAY_LENGTH(@names), @names[OFFSET(1)], @record.a, @none IS NULL FROM {births} "
        "WHERE year = @number",
        query_parameters=[
            bigquery.ScalarQueryParameter("text", "STRING", hostile),
            bigquery.ScalarQueryParameter("number", "INT64", 2001),
            bigquery.ScalarQueryParameter("day", "DATE", datetime.date(2020, 1, 2)),
            bigquery.ScalarQueryParameter("none", "FLOAT64", None),
            bigquery.ArrayQueryParameter("names", "STRING", ["a", "b'c"]),
            bigquery.StructQueryParameter("record", bigquery.ScalarQueryParameter("a", "INT64", 5)),
        ],
    )
    assert rows == [(hostile, 2002, datetime.date(2020, 1, 2), 2, "b'c", 5, True)]


def test_positional_parameters_go_in_order(client: bigquery.Client) -> None:
    """The first ? is the first parameter."""
    parameters = [bigquery.ScalarQueryParameter(None, "INT64", 7), bigquery.ScalarQueryParameter(None, "STRING", "b")]
    assert ask(client, "SELECT ? * 2, ?", query_parameters=parameters) == [(14, "b")]


def test_a_missing_parameter_is_named(client: bigquery.Client) -> None:
    """A parameter that the request lacks is told by name and place."""
    with pytest.raises(BadRequest, match=r"Query parameter 'year' not found at \[1:\d+\]"):
        ask(client, "SELECT @year")


def test_rows_come_in_the_order_asked_for_page_by_page(client: bigquery.Client) -> None:
    """Pages of a sorted result join to the sorted result, and the total is known from the first."""
    job = client.query("SELECT x FROM UNNEST(GENERATE_ARRAY(1, 2500)) AS x ORDER BY x DESC")
    pages = job.result(page_size=700)
    assert pages.total_rows == 2500
    found = [[row.x for row in page] for page in pages.pages]
    assert [len(one) for one in found] == [700, 700, 700, 400]
    assert [x for page in found for x in page] == list(range(2500, 0, -1))


def test_a_query_writes_its_destination(client: bigquery.Client, births: str) -> None:
    """WRITE_EMPTY refuses a table with rows, WRITE_TRUNCATE replaces, WRITE_APPEND adds."""
    target = f"{client.project}.{births}_copy"
    ask(client, f"SELECT year FROM {births}", destination=target)
    with pytest.raises(Conflict, match="Already Exists: Table"):
        ask(client, f"SELECT year FROM {births}", destination=target)
    ask(client, f"SELECT year FROM {births} WHERE year > 2001", destination=target, write_disposition="WRITE_TRUNCATE")
    assert ask(client, f"SELECT COUNT(*) FROM `{target}`") == [(2,)]
    ask(client, "SELECT 1999 AS year", destination=target, write_disposition="WRITE_APPEND")
    assert ask(client, f"SELECT year FROM `{target}` ORDER BY year") == [(1999,), (2002,), (2003,)]


def test_a_query_that_fails_changes_nothing(client: bigquery.Client, births: str) -> None:
    """A row that fails at the end leaves the destination as it was."""
    target = f"{client.project}.{births}"
    with pytest.raises(BadRequest, match="division by zero"):
        ask(
            client,
            "SELECT 1 AS year, 1 AS month, 1 / (x - 5000) AS pounds, TRUE AS is_male FROM "
            "UNNEST(GENERATE_ARRAY(1, 5000)) AS x",
            destination=target,
            write_disposition="WRITE_TRUNCATE",
        )
    assert ask(client, f"SELECT COUNT(*) FROM {births}") == [(3,)]


def test_a_dry_run_tells_schema_and_bytes_and_leaves_no_job(client: bigquery.Client, births: str) -> None:
    """dryRun checks the query, answers its schema and bytes, runs nothing."""
    options = bigquery.QueryJobConfig(dry_run=True)
    job = client.query(f"SELECT year, pounds * 2 AS twice FROM {births}", job_config=options)
    assert [(one.name, one.field_type) for one in job.schema] == [("year", "INTEGER"), ("twice", "FLOAT")]
    assert job.total_bytes_processed > 0
    with pytest.raises(BadRequest, match="Unrecognized name: nothing"):
        client.query(f"SELECT nothing FROM {births}", job_config=options)
    client.query(f"DELETE FROM {births} WHERE TRUE", job_config=options)
    assert ask(client, f"SELECT COUNT(*) FROM {births}") == [(3,)]


def test_dml_tells_how_many_rows_it_changed(client: bigquery.Client, births: str) -> None:
    """INSERT, UPDATE, DELETE, MERGE and TRUNCATE change the table and count."""

    def count(sql: str) -> int | None:
        job = client.query(sql)
        job.result()
        return job.num_dml_affected_rows

    assert count(f"INSERT INTO {births} (year, month) VALUES (2004, 4), (2005, 5)") == 2
    assert count(f"INSERT INTO {births} (year) SELECT year + 100 FROM {births} WHERE year = 2001") == 1
    assert count(f"UPDATE {births} SET month = 6 WHERE year IN (2004, 2005)") == 2
    assert count(f"DELETE FROM {births} AS b WHERE b.year > 2100") == 1
    merge = (
        f"MERGE {births} AS t USING (SELECT 2001 AS year UNION ALL SELECT 1990) AS s ON t.year = s.year "
        "WHEN MATCHED THEN UPDATE SET month = 9 WHEN NOT MATCHED THEN INSERT (year, month) VALUES (s.year, 1)"
    )
    assert count(merge) == 2
    assert ask(client, f"SELECT year, month FROM {births} ORDER BY year") == [
        (1990, 1),
        (2001, 9),
        (2002, 2),
        (2003, 12),
        (2004, 6),
        (2005, 6),
    ]
    assert count(f"TRUNCATE TABLE {births}") == 6
    assert ask(client, f"SELECT COUNT(*) FROM {births}") == [(0,)]


def test_ddl_makes_and_drops(client: bigquery.Client, dataset: str) -> None:
    """CREATE TABLE (columns, AS SELECT, OR REPLACE, IF NOT EXISTS), CREATE VIEW, DROP and IF EXISTS."""
    table = f"`{client.project}.{dataset}.made`"
    ask(client, f"CREATE TABLE {table} (a INT64 NOT NULL, b ARRAY<STRUCT<c STRING>>)")
    schema = client.get_table(f"{dataset}.made").schema
    assert [(one.name, one.field_type, one.mode) for one in schema] == [
        ("a", "INTEGER", "REQUIRED"),
        ("b", "RECORD", "REPEATED"),
    ]
    with pytest.raises(BadRequest, match="Required field a cannot be null"):
        ask(client, f"INSERT INTO {table} (a) VALUES (NULL)")
    with pytest.raises(Conflict, match="Already Exists"):
        ask(client, f"CREATE TABLE {table} (a INT64)")
    ask(client, f"CREATE TABLE IF NOT EXISTS {table} AS SELECT 1 AS other")
    assert len(client.get_table(f"{dataset}.made").schema) == 2
    ask(client, f"CREATE OR REPLACE TABLE {table} AS SELECT 5 AS a")
    ask(client, f"CREATE VIEW {dataset}.seen AS SELECT a + 1 AS b FROM {table}")
    assert ask(client, f"SELECT b FROM {dataset}.seen") == [(6,)]
    ask(client, f"DROP VIEW {dataset}.seen")
    ask(client, f"DROP TABLE {table}")
    ask(client, f"DROP TABLE IF EXISTS {table}")
    with pytest.raises(NotFound, match="Not found: Table"):
        ask(client, f"DROP TABLE {table}")


def test_names_are_found_in_all_their_spellings(client: bigquery.Client, births: str) -> None:
    """Backticks around all or parts, with and without project, and a default dataset mean one table."""
    dataset, table = births.split(".")
    spellings = [
        f"`{client.project}.{births}`",
        f"`{client.project}`.{births}",
        f"`{births}`",
        f"{client.project}.{births}",
        births,
    ]
    for spelling in spellings:
        assert ask(client, f"SELECT MAX({table}.year) FROM {spelling}") == [(2003,)]
    default = bigquery.DatasetReference(client.project, dataset)
    assert ask(client, f"SELECT MAX(year) FROM {table}", default_dataset=default) == [(2003,)]
    with pytest.raises(BadRequest, match=f'Table "{table}" must be qualified with a dataset'):
        ask(client, f"SELECT 1 FROM {table}")


@pytest.mark.parametrize(
    ("sql", "kind", "message"),
    [
        ("SELECT 1 +", BadRequest, r"Syntax error: .* at \[1:\d+\]"),
        ("SELEC 1", BadRequest, r"Syntax error: .* at \[1:\d\]"),
        ("SELECT\n  weight FROM {births}", BadRequest, r"Unrecognized name: weight at \[2:3\]"),
        ("SELECT b.weight FROM {births} AS b", BadRequest, r"weight.*\[1:"),
        ("SELECT NOSUCH(year) FROM {births}", BadRequest, r"Function not found: NOSUCH at \[1:8\]"),
        ("SELECT UPPER(year) FROM {births}", BadRequest, r"No matching signature for function UPPER.*INT64"),
        ("SELECT CAST('x' AS INT64)", BadRequest, "Bad int64 value: x"),
        ("SELECT 9223372036854775807 + 1", BadRequest, "int64 overflow"),
        ("SELECT year, COUNT(*) FROM {births}", BadRequest, "neither grouped nor aggregated"),
        ("SELECT 1 AS a, 2 AS a", BadRequest, r"Duplicate column names .* a"),
        ("SELECT * FROM {births}_nothere", NotFound, r"Not found: Table baton-local:\w+\.births_nothere .*\[1:15\]"),
        ("SELECT * FROM nowhere.births", NotFound, "Not found: Dataset baton-local:nowhere"),
        ("SELECT [1][OFFSET(5)]", BadRequest, "Array index 5 is out of bounds"),
        ("SELECT ERROR('boom')", BadRequest, "boom"),
        ("", BadRequest, "query"),
        ("SELECT 1; SELECT 2", MethodNotImplemented, "script of 2 statements"),
        ("SELECT * FROM {births} FOR SYSTEM_TIME AS OF CURRENT_TIMESTAMP()", MethodNotImplemented, "SYSTEM_TIME"),
        ("SELECT CAST(1 AS BIGNUMERIC)", MethodNotImplemented, "BIGDECIMAL|BIGNUMERIC"),
    ],
)
def test_errors_say_what_and_where(
    client: bigquery.Client, births: str, sql: str, kind: type[Exception], message: str
) -> None:
    """A refused query names the value and the place, in BigQuery's words, and none of our own names."""
    with pytest.raises(kind, match=message) as caught:
        ask(client, sql.replace("{births}", births))
    assert "t_" not in str(caught.value).replace("not_", "")
    assert "LINE 1" not in str(caught.value)


def test_legacy_sql_is_refused_by_name(client: bigquery.Client) -> None:
    """A query that BigQuery would read as legacy SQL is not read as something else."""
    with pytest.raises(MethodNotImplemented, match="useLegacySql"):
        ask(client, "SELECT 1", use_legacy_sql=True)


def test_the_same_request_id_runs_once(client: bigquery.Client, births: str) -> None:
    """jobs.query sent again with its requestId (a lost answer) gives the first one's job."""
    path = f"/projects/{client.project}/queries"
    body = {
        "query": f"INSERT INTO {births} (year) VALUES (1900)",
        "useLegacySql": False,
        "requestId": f"once-{births}",
    }
    first, second = (client._connection.api_request(method="POST", path=path, data=body) for _ in range(2))
    assert first["jobReference"] == second["jobReference"]
    assert ask(client, f"SELECT COUNT(*) FROM {births} WHERE year = 1900") == [(1,)]


def test_equal_requests_at_once_run_once(client: bigquery.Client, births: str) -> None:
    """Eight copies of one jobs.query at the same time are one job."""
    path, found = f"/projects/{client.project}/queries", []
    body = {"query": f"INSERT INTO {births} (year) VALUES (1901)", "useLegacySql": False, "requestId": f"race-{births}"}

    def send() -> None:
        found.append(client._connection.api_request(method="POST", path=path, data=body)["jobReference"]["jobId"])

    threads = [threading.Thread(target=send) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(30)
    assert len(found) == 8
    assert len(set(found)) == 1
    assert ask(client, f"SELECT COUNT(*) FROM {births} WHERE year = 1901") == [(1,)]


def test_a_table_without_a_schema_is_told(client: bigquery.Client, dataset: str) -> None:
    """Querying a table that has no columns yet says so; a load gives it some."""
    client.create_table(bigquery.Table(f"{client.project}.{dataset}.bare"))
    with pytest.raises(BadRequest, match="does not have a schema"):
        ask(client, f"SELECT * FROM {dataset}.bare")
    ask(client, "SELECT 1 AS a", destination=f"{client.project}.{dataset}.bare")
    assert ask(client, f"SELECT a FROM {dataset}.bare") == [(1,)]


def test_two_writers_of_one_table_both_count(client: bigquery.Client, births: str) -> None:
    """Concurrent INSERTs into a table lose nothing."""
    threads = [
        threading.Thread(target=ask, args=(client, f"INSERT INTO {births} (year) VALUES ({1800 + n})"))
        for n in range(8)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join(30)
    assert ask(client, f"SELECT COUNT(*), COUNT(DISTINCT year) FROM {births} WHERE year < 1900") == [(8, 8)]


def test_a_snapshot_is_not_disturbed_by_a_replacement(client: bigquery.Client, births: str) -> None:
    """The pages of a result that was read before stay readable after its table was replaced."""
    result = client.query(f"SELECT year FROM {births} ORDER BY year").result(page_size=1)
    pages = result.pages
    first = [row.year for row in next(pages)]
    ask(client, f"CREATE OR REPLACE TABLE {births} AS SELECT 1 AS year")
    assert first + [row.year for page in pages for row in page] == [2001, 2002, 2003]
