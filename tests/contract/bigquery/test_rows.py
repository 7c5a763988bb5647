"""Streaming inserts and tabledata, by the stock client."""

import datetime
import decimal

import pytest
from google.api_core.exceptions import BadRequest, NotFound
from google.cloud import bigquery

PEOPLE = [
    bigquery.SchemaField("name", "STRING", mode="REQUIRED"),
    bigquery.SchemaField("age", "INT64"),
    bigquery.SchemaField("tags", "STRING", mode="REPEATED"),
]


@pytest.fixture
def people(client: bigquery.Client, dataset: str) -> bigquery.Table:
    return client.create_table(bigquery.Table(f"{client.project}.{dataset}.people", schema=PEOPLE))


def test_inserted_rows_are_seen_at_once(client: bigquery.Client, people: bigquery.Table) -> None:
    """What insertAll accepted, tabledata.list and a query show."""
    assert client.insert_rows(people, [{"name": "Ada", "age": 36, "tags": ["x", "y"]}, {"name": "Bob"}]) == []
    assert [tuple(row) for row in client.list_rows(people)] == [("Ada", 36, ["x", "y"]), ("Bob", None, [])]
    assert client.get_table(people).num_rows == 2


def test_values_of_every_type_go_in_as_the_client_writes_them(client: bigquery.Client, dataset: str) -> None:
    """The client's own JSON for each type is read back as the same Python value."""
    values = {
        "s": "it's",
        "i": -(2**63),
        "f": 0.1,
        "b": False,
        "y": b"\x00\xff",
        "d": datetime.date(1969, 7, 20),
        "t": datetime.datetime(2020, 1, 2, 3, 4, 5, 6, tzinfo=datetime.UTC),
        "dt": datetime.datetime(2020, 1, 2, 3, 4, 5, 6),
        "tm": datetime.time(1, 2, 3, 4),
        "n": decimal.Decimal("12345678901234567890.123456789"),
        "j": {"k": [1, "x"]},
    }
    kinds = ["STRING", "INT64", "FLOAT64", "BOOL", "BYTES", "DATE", "TIMESTAMP", "DATETIME", "TIME", "NUMERIC", "JSON"]
    schema = [bigquery.SchemaField(name, kind) for name, kind in zip(values, kinds, strict=True)]
    table = client.create_table(bigquery.Table(f"{client.project}.{dataset}.t", schema=schema))
    assert client.insert_rows(table, [values]) == []
    assert [dict(row) for row in client.list_rows(table)] == [values]


def test_one_bad_row_holds_all_back(client: bigquery.Client, people: bigquery.Table) -> None:
    """Without skipInvalidRows nothing is inserted; each row is told its reason."""
    errors = client.insert_rows_json(
        people, [{"name": "Ada"}, {"name": "Bob", "age": "x"}, {"age": 1}, {"name": "C", "nope": 1}]
    )
    told = {one["index"]: one["errors"][0] for one in errors}
    assert {index: error["reason"] for index, error in told.items()} == {
        0: "stopped",
        1: "invalid",
        2: "invalid",
        3: "invalid",
    }
    assert [told[index]["location"] for index in (1, 2, 3)] == ["age", "name", "nope"]
    assert list(client.list_rows(people)) == []


def test_invalid_rows_can_be_skipped(client: bigquery.Client, people: bigquery.Table) -> None:
    """With skipInvalidRows the good ones go in."""
    errors = client.insert_rows_json(people, [{"name": "Ada"}, {"age": 1}], skip_invalid_rows=True)
    assert [one["index"] for one in errors] == [1]
    assert [row.name for row in client.list_rows(people)] == ["Ada"]
    assert client.insert_rows_json(people, [{"name": "Bob", "nope": 1}], ignore_unknown_values=True) == []


def test_the_same_insert_id_goes_in_once(client: bigquery.Client, people: bigquery.Table) -> None:
    """A retried request with its insertIds does not double its rows."""
    for _ in range(2):
        assert client.insert_rows_json(people, [{"name": "Ada"}, {"name": "Bob"}], row_ids=["1", "2"]) == []
    assert client.insert_rows_json(people, [{"name": "Ada"}], row_ids=[None]) == []
    assert sorted(row.name for row in client.list_rows(people)) == ["Ada", "Ada", "Bob"]


def test_a_missing_table_takes_no_rows(client: bigquery.Client, dataset: str) -> None:
    """The 404 names the table."""
    with pytest.raises(NotFound, match="nothere"):
        client.insert_rows_json(f"{client.project}.{dataset}.nothere", [{"a": 1}], retry=None)


def test_rows_are_listed_page_by_page_in_table_order(client: bigquery.Client, dataset: str) -> None:
    """Pages, a start index, a maximum and chosen columns; a made-up page token is refused."""
    client.query(
        f"CREATE TABLE {dataset}.t AS SELECT x, x * 2 AS y FROM UNNEST(GENERATE_ARRAY(1, 1000)) AS x ORDER BY x"
    ).result()
    table = client.get_table(f"{dataset}.t")
    assert [row.x for row in client.list_rows(table, page_size=300)] == list(range(1, 1001))
    assert [row.x for row in client.list_rows(table, start_index=997)] == [998, 999, 1000]
    assert [row.x for row in client.list_rows(table, max_results=2)] == [1, 2]
    chosen = client.list_rows(table, selected_fields=[table.schema[1]], max_results=1)
    assert [tuple(row) for row in chosen] == [(2,)]
    with pytest.raises(BadRequest, match="pageToken"):
        list(client.list_rows(table, page_token="made-up"))


def test_a_page_ends_before_ten_megabytes(client: bigquery.Client, dataset: str) -> None:
    """A page is cut by size, and the rest follows."""
    client.query(
        f"CREATE TABLE {dataset}.t AS SELECT x, REPEAT('x', 100000) AS big FROM UNNEST(GENERATE_ARRAY(1, 150)) AS x"
    ).result()
    path = f"/projects/{client.project}/datasets/{dataset}/tables/t/data"
    first = client._connection.api_request(method="GET", path=path)
    assert 0 < len(first["rows"]) < 150
    assert first["totalRows"] == "150"
    assert len([row.x for row in client.list_rows(f"{dataset}.t")]) == 150


def test_fields_of_the_answer_can_be_chosen(client: bigquery.Client, people: bigquery.Table) -> None:
    """The standard `fields` parameter cuts the answer, rows included."""
    client.insert_rows_json(people, [{"name": "Ada"}])
    path = f"{people.path}/data"

    def ask(fields: str) -> dict[str, object]:
        return client._connection.api_request(method="GET", path=path, query_params={"fields": fields})

    assert ask("totalRows") == {"totalRows": "1"}
    assert ask("rows") == {"rows": [{"f": [{"v": "Ada"}, {"v": None}, {"v": []}]}]}
    assert ask("kind,rows(f)")["rows"][0]["f"][0] == {"v": "Ada"}
