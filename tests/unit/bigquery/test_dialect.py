"""GoogleSQL functions answer what BigQuery documents, where DuckDB's namesake would not."""

import datetime
from typing import Any

import pytest

from localcloud.bigquery.engine import Engine
from localcloud.bigquery.errors import InvalidQuery, NotFound, Unsupported
from localcloud.bigquery.googlesql.errors import explain
from localcloud.bigquery.googlesql.scope import Resolver
from localcloud.bigquery.googlesql.translate import parse, translate, translate_condition
from localcloud.bigquery.names import TableRef

UTC = datetime.UTC


def no_tables(ref: TableRef) -> Any:
    raise NotFound(f"Not found: Table {ref}")


def run(engine: Engine, sql: str) -> list[tuple[Any, ...]]:
    translated = translate(parse(sql), Resolver("p", None, no_tables), [])
    with engine.read() as cursor:
        try:
            return cursor.execute(translated.sql).fetchall()
        except Exception as error:
            raise explain(error, sql) from error


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        # Arithmetic: INT64 is 64 bits wide, a literal with a point is FLOAT64, division is exact or an error.
        ("2147483647 + 1", 2147483648),
        ("1000000 * 1000000", 10**12),
        ("-9223372036854775808", -(2**63)),
        ("0.1 + 0.2", 0.30000000000000004),
        ("7 / 2", 3.5),
        ("DIV(-7, 2)", -3),
        ("MOD(-7, 4)", -3),
        ("IEEE_DIVIDE(1, 0)", float("inf")),
        ("SAFE_DIVIDE(1, 0)", None),
        ("SAFE_ADD(9223372036854775807, 1)", None),
        ("SAFE_SUBTRACT(5, 3)", 2),
        ("SAFE_MULTIPLY(9223372036854775807, 2)", None),
        ("SAFE_NEGATE(5)", -5),
        ("SAFE_CAST('x' AS INT64)", None),
        ("SAFE.SUBSTR('abc', 2)", "bc"),
        ("ROUND(2.5)", 3.0),
        ("ROUND(-2.5)", -3.0),
        ("LOG(100, 10)", 2.0),
        ("GREATEST(1, NULL)", None),
        ("LEAST(1, NULL)", None),
        # Text: NULL is contagious, regular expressions are RE2, FORMAT is printf.
        ("CONCAT('a', NULL, 'b')", None),
        ("CONCAT('a', 'b', 'c')", "abc"),
        ("FORMAT('%05d|%s|%.2f', 42, 'x', 1.005)", "00042|x|1.00"),
        ("BYTE_LENGTH('é')", 2),
        ("CHAR_LENGTH('é')", 1),
        ("SUBSTR('abcde', -2)", "de"),
        ("REGEXP_EXTRACT('foo123', r'([a-z]+)')", "foo"),
        ("REGEXP_CONTAINS('abc', r'^a.c$')", True),
        ("REGEXP_REPLACE('a1b2', r'[0-9]', '')", "ab"),
        ("SPLIT('a,b')", ["a", "b"]),
        ("TO_HEX(MD5('a'))", "0cc175b9c0f1b6a831c399e269772661"),
        ("CAST('né' AS BYTES)", "né".encode()),
        ("TO_HEX(SHA1('a'))", "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8"),
        ("SESSION_USER()", "local@localhost"),
        # Dates and times: DATE stays DATE, TIMESTAMP stays TIMESTAMP, weeks begin on Sunday, differences are truncated.
        ("DATE_ADD(DATE '2024-01-31', INTERVAL 1 MONTH)", datetime.date(2024, 2, 29)),
        ("DATE_TRUNC(DATE '2024-02-29', MONTH)", datetime.date(2024, 2, 1)),
        ("EXTRACT(DAYOFWEEK FROM DATE '2024-02-29')", 5),
        ("EXTRACT(ISOWEEK FROM DATE '2024-02-29')", 9),
        ("EXTRACT(DATE FROM TIMESTAMP '2024-02-29 23:00:00+00')", datetime.date(2024, 2, 29)),
        ("DATE_DIFF(DATE '2024-03-01', DATE '2024-02-28', DAY)", 2),
        ("TIMESTAMP_DIFF(TIMESTAMP '2020-01-01 01:30:00+00', TIMESTAMP '2020-01-01 00:45:00+00', HOUR)", 0),
        ("UNIX_SECONDS(TIMESTAMP '1970-01-01 00:00:01.9+00')", 1),
        ("TIMESTAMP_MILLIS(1500)", datetime.datetime(1970, 1, 1, 0, 0, 1, 500000, tzinfo=UTC)),
        ("TIMESTAMP_MICROS(5)", datetime.datetime(1970, 1, 1, 0, 0, 0, 5, tzinfo=UTC)),
        ("PARSE_TIMESTAMP('%Y-%m-%d', '2020-01-02')", datetime.datetime(2020, 1, 2, tzinfo=UTC)),
        ("PARSE_DATE('%Y%m%d', '20200102')", datetime.date(2020, 1, 2)),
        ("FORMAT_DATE('%Y/%m', DATE '2020-01-02')", "2020/01"),
        # Arrays and structs.
        ("[10, 20, 30][OFFSET(0)]", 10),
        ("[10, 20, 30][ORDINAL(3)]", 30),
        ("[10, 20, 30][SAFE_OFFSET(9)]", None),
        ("ARRAY_LENGTH(GENERATE_ARRAY(1, 5))", 5),
        ("(SELECT SUM(x) FROM UNNEST([1, 2, 3]) AS x)", 6),
        (
            "(SELECT STRING_AGG(CAST(o AS STRING), ',' ORDER BY o) FROM UNNEST(['a', 'b', 'c']) AS x WITH OFFSET AS o)",
            "0,1,2",
        ),
        ("(SELECT ARRAY_AGG(x ORDER BY x DESC LIMIT 2) FROM UNNEST([1, 3, 2]) AS x)", [3, 2]),
        ("(SELECT SUM(b) FROM UNNEST([STRUCT(1 AS a, 10 AS b), (2, 20)]) WHERE a > 1)", 20),
        ("(SELECT SUM(s.b) FROM UNNEST([STRUCT(1 AS a, 10 AS b), (2, 20)]) AS s)", 30),
        ("STRUCT(1 AS a).a", 1),
        ('JSON_VALUE(\'{"a": {"b": "x"}}\', \'$.a.b\')', "x"),
        ("CAST('1.123456789' AS NUMERIC) * 2 = NUMERIC '2.246913578'", True),
    ],
)
def test_an_expression_answers_as_documented(engine: Engine, expression: str, expected: Any) -> None:
    """The expression has BigQuery's value."""
    assert run(engine, f"SELECT {expression}") == [(expected,)]


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT x FROM UNNEST([3, NULL, 1]) AS x ORDER BY x", [(None,), (1,), (3,)]),
        ("SELECT x FROM UNNEST([3, NULL, 1]) AS x ORDER BY x DESC", [(3,), (1,), (None,)]),
        ("WITH t AS (SELECT 2000000000 AS x) SELECT x + x FROM t", [(4000000000,)]),
        ("SELECT * EXCEPT (a) FROM (SELECT 1 AS a, 2 AS b)", [(2,)]),
        ("SELECT * REPLACE (5 AS a) FROM (SELECT 1 AS a, 2 AS b)", [(5, 2)]),
        ("SELECT x FROM UNNEST([1, 2, 3]) AS x WHERE TRUE QUALIFY ROW_NUMBER() OVER (ORDER BY x DESC) = 1", [(3,)]),
        ("SELECT COUNTIF(x > 1), ANY_VALUE(5), LOGICAL_AND(x > 0) FROM UNNEST([1, 2, 3]) AS x", [(2, 5, True)]),
        ("SELECT x, COUNT(*) FROM UNNEST([1, 1, 2]) AS x GROUP BY 1 ORDER BY 2 DESC LIMIT 1", [(1, 2)]),
        ("SELECT 1 UNION ALL SELECT 2 UNION DISTINCT SELECT 2 ORDER BY 1", [(1,), (2,)]),
        ("SELECT * FROM (SELECT 'a' AS k, 1 AS v) PIVOT(SUM(v) FOR k IN ('a', 'b'))", [(1, None)]),
    ],
)
def test_a_statement_answers_as_documented(engine: Engine, sql: str, rows: list[tuple[Any, ...]]) -> None:
    """The statement has BigQuery's rows, in BigQuery's order of nulls."""
    assert run(engine, sql) == rows


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("SELECT 1, 2 AS b, 3", ["f0_", "b", "f1_"]),
        ("SELECT s.a, s.a + 1 FROM (SELECT STRUCT(1 AS a) AS s)", ["a", "f0_"]),
        ("SELECT COUNT(*) UNION ALL SELECT 5", ["f0_"]),
    ],
)
def test_unnamed_columns_get_bigquerys_names(engine: Engine, sql: str, names: list[str]) -> None:
    """A column without a name is f0_, f1_, …"""
    translated = translate(parse(sql), Resolver("p", None, no_tables), [])
    with engine.read() as cursor:
        assert [row[0] for row in cursor.execute(f"DESCRIBE {translated.sql}").fetchall()] == names


@pytest.mark.parametrize(
    ("sql", "kind", "message"),
    [
        ("SELECT NOSUCH(1)", InvalidQuery, r"Function not found: NOSUCH at \[1:8\]"),
        ("SELECT 1 / 0", InvalidQuery, "division by zero"),
        ("SELECT MOD(1, 0)", InvalidQuery, "division by zero"),
        ("SELECT 9223372036854775807 + 1", InvalidQuery, "int64 overflow"),
        ("SELECT [1][OFFSET(1)]", InvalidQuery, "Array index 1 is out of bounds"),
        ("SELECT CAST('2020-13-01' AS DATE)", InvalidQuery, "Invalid value: '2020-13-01'"),
        ("SELECT EXTRACT(WEEK FROM DATE '2020-01-01')", Unsupported, "WEEK"),
        ("SELECT CAST(DATE '2020-01-01' AS STRING FORMAT 'YYYY')", Unsupported, "FORMAT"),
        ("SELECT CAST(1 AS BIGNUMERIC)", Unsupported, "BIGDECIMAL"),
        ("SELECT a FROM (SELECT 1 AS b)", InvalidQuery, r"Unrecognized name: a at \[1:8\]"),
    ],
)
def test_a_refusal_says_what_and_where(engine: Engine, sql: str, kind: type[Exception], message: str) -> None:
    """The error is BigQuery's, with its place."""
    with pytest.raises(kind, match=message):
        run(engine, sql)


def test_a_condition_is_one_expression() -> None:
    """A row restriction may use functions and operators, and nothing that reads other rows."""
    assert translate_condition("MOD(x, 4) < 3 AND name LIKE 'a%'") == "x % 4 < 3 AND name LIKE 'a%'"
    for bad in ("x IN (SELECT 1)", "x = 1; SELECT 2", "1=1) OR (1=1", ""):
        with pytest.raises(InvalidQuery):
            translate_condition(bad)
