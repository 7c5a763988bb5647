"""Datasets and tables over REST, by the stock client."""

import datetime

import pytest
from google.api_core.exceptions import BadRequest, Conflict, NotFound, PreconditionFailed
from google.cloud import bigquery

FIELDS = [bigquery.SchemaField("name", "STRING", mode="REQUIRED"), bigquery.SchemaField("age", "INT64")]


def make(client: bigquery.Client, name: str, schema: list[bigquery.SchemaField] = FIELDS) -> bigquery.Table:
    return client.create_table(bigquery.Table(f"{client.project}.{name}", schema=schema))


def test_a_dataset_is_made_once(client: bigquery.Client, dataset: str) -> None:
    """A second insert of a dataset is a conflict that names it."""
    with pytest.raises(Conflict, match=f"Already Exists: Dataset {client.project}:{dataset}"):
        client.create_dataset(dataset)


def test_only_datasets_with_the_label_are_listed(client: bigquery.Client, dataset: str) -> None:
    """datasets.list honours its filter: a cleaner that trusts it deletes what it labelled and nothing else."""
    labelled = bigquery.Dataset(f"{client.project}.{dataset}_labelled")
    labelled.labels = {"kind": "temporary", "owner": dataset}
    client.create_dataset(labelled)
    try:

        def listed(text: str | None) -> set[str]:
            return {one.dataset_id for one in client.list_datasets(filter=text)}

        assert listed(f"labels.owner:{dataset}") == {labelled.dataset_id}
        assert listed(f"labels.owner:{dataset} labels.kind:temporary") == {labelled.dataset_id}
        assert listed(f"labels.owner:{dataset} labels.kind:other") == set()
        assert dataset not in listed("labels.owner")
        assert {dataset, labelled.dataset_id} <= listed(None)
        with pytest.raises(BadRequest, match="filter"):
            listed("name:x")
    finally:
        client.delete_dataset(labelled)


def test_datasets_are_listed_page_by_page(client: bigquery.Client, dataset: str) -> None:
    """Pages of one give the same datasets as one page of all."""
    client.create_dataset(f"{dataset}_b")
    names = [one.dataset_id for one in client.list_datasets()]
    assert [one.dataset_id for one in client.list_datasets(page_size=1)] == names
    client.delete_dataset(f"{dataset}_b")


def test_a_patch_changes_what_it_names_and_nothing_else(client: bigquery.Client, dataset: str) -> None:
    """A patched description leaves labels alone; a label set to None is removed."""
    found = client.get_dataset(dataset)
    found.labels = {"a": "1", "b": "2"}
    found = client.update_dataset(found, ["labels"])
    found.description = "births"
    found.labels = {"a": None}
    found = client.update_dataset(found, ["description", "labels"])
    assert (found.description, found.labels) == ("births", {"b": "2"})


def test_an_update_from_an_old_copy_is_refused(client: bigquery.Client, dataset: str) -> None:
    """If-Match with an etag that is no longer current changes nothing."""
    old, new = client.get_dataset(dataset), client.get_dataset(dataset)
    new.description = "first"
    client.update_dataset(new, ["description"])
    old.description = "second"
    with pytest.raises(PreconditionFailed, match="read it again"):
        client.update_dataset(old, ["description"])
    assert client.get_dataset(dataset).description == "first"


def test_a_dataset_with_tables_is_not_deleted_by_accident(client: bigquery.Client, dataset: str) -> None:
    """Without deleteContents a dataset in use stays."""
    make(client, f"{dataset}.people")
    with pytest.raises(BadRequest, match="still in use"):
        client.delete_dataset(dataset)
    client.delete_dataset(dataset, delete_contents=True)
    with pytest.raises(NotFound, match=f"Not found: Dataset {client.project}:{dataset}"):
        client.get_dataset(dataset)


def test_a_table_comes_back_as_it_was_made(client: bigquery.Client, dataset: str) -> None:
    """Schema (nested and repeated fields too), description, labels, partitioning and clustering are kept."""
    table = bigquery.Table(
        f"{client.project}.{dataset}.people",
        schema=[
            *FIELDS,
            bigquery.SchemaField("born", "DATE", description="day of birth"),
            bigquery.SchemaField(
                "children", "RECORD", mode="REPEATED", fields=[bigquery.SchemaField("name", "STRING")]
            ),
        ],
    )
    table.description, table.labels = "people", {"kind": "test"}
    table.time_partitioning = bigquery.TimePartitioning(field="born")
    table.clustering_fields = ["name"]
    client.create_table(table)
    found = client.get_table(table)
    assert [one.to_api_repr() for one in found.schema] == [
        {"name": "name", "type": "STRING", "mode": "REQUIRED"},
        {"name": "age", "type": "INTEGER", "mode": "NULLABLE"},
        {"name": "born", "type": "DATE", "mode": "NULLABLE", "description": "day of birth"},
        {
            "name": "children",
            "type": "RECORD",
            "mode": "REPEATED",
            "fields": [{"name": "name", "type": "STRING", "mode": "NULLABLE"}],
        },
    ]
    assert (found.description, found.labels, found.num_rows) == ("people", {"kind": "test"}, 0)
    assert found.time_partitioning.field == "born"
    assert found.clustering_fields == ["name"]


def test_tables_are_listed_made_once_and_deleted(client: bigquery.Client, dataset: str) -> None:
    """tables.list shows names in order, a second insert conflicts, a deleted table is gone."""
    for name in ("b", "a", "c"):
        make(client, f"{dataset}.{name}")
    assert [one.table_id for one in client.list_tables(dataset, page_size=2)] == ["a", "b", "c"]
    with pytest.raises(Conflict, match=f"Already Exists: Table {client.project}:{dataset}.a"):
        make(client, f"{dataset}.a")
    client.delete_table(f"{dataset}.a")
    with pytest.raises(NotFound, match=f"Not found: Table {client.project}:{dataset}.a"):
        client.get_table(f"{dataset}.a")
    assert [one.table_id for one in client.list_tables(dataset)] == ["b", "c"]


def test_a_table_in_a_missing_dataset_names_the_dataset(client: bigquery.Client) -> None:
    """The 404 says what is missing: the dataset, not the table."""
    with pytest.raises(NotFound, match=f"Not found: Dataset {client.project}:nowhere"):
        client.get_table("nowhere.people")


def test_a_schema_grows_and_never_shrinks(client: bigquery.Client, dataset: str) -> None:
    """Columns may be added and relaxed; removing one or changing its type is refused and changes nothing."""
    table = make(client, f"{dataset}.people")
    client.insert_rows_json(table, [{"name": "Ada", "age": 36}])
    table.schema = [
        bigquery.SchemaField("name", "STRING"),
        FIELDS[1],
        bigquery.SchemaField("tags", "STRING", "REPEATED"),
    ]
    client.update_table(table, ["schema"])
    client.insert_rows_json(table, [{"age": 5, "tags": ["x"]}])
    rows = sorted(tuple(row) for row in client.query(f"SELECT age, name, tags FROM {dataset}.people").result())
    assert rows == [(5, None, ["x"]), (36, "Ada", [])]
    table = client.get_table(table)
    table.schema = [bigquery.SchemaField("age", "STRING")]
    with pytest.raises(BadRequest, match="Provided Schema does not match"):
        client.update_table(table, ["schema"])
    assert len(client.get_table(table).schema) == 3


def test_an_expired_table_is_gone(client: bigquery.Client, dataset: str) -> None:
    """A table past its expirationTime is not found."""
    table = bigquery.Table(f"{client.project}.{dataset}.brief", schema=FIELDS)
    table.expires = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=1)
    client.create_table(table)
    with pytest.raises(NotFound, match="Not found: Table"):
        client.get_table(f"{dataset}.brief")


@pytest.mark.parametrize(
    "name",
    [
        "with space",
        "naïve-Größe",
        "SELECT",
        "1999",
        "a" * 300,
        "数据",
    ],
)
def test_odd_table_names_work_everywhere(client: bigquery.Client, dataset: str, name: str) -> None:
    """Whatever BigQuery takes as a table id can be made, filled, queried and deleted."""
    table = make(client, f"{dataset}.{name}")
    client.insert_rows_json(table, [{"name": "Ada", "age": 1}])
    rows = client.query(f"SELECT age FROM `{client.project}.{dataset}.{name}`").result()
    assert [row.age for row in rows] == [1]
    assert [one.table_id for one in client.list_tables(dataset)] == [name]
    client.delete_table(table)


@pytest.mark.parametrize("name", ['x"; DROP TABLE y; --', "a'b", "a$20200101", "a*", "a;b", "../../x", "a\\b", 'a"b'])
def test_hostile_table_names_are_refused(client: bigquery.Client, dataset: str, name: str) -> None:
    """An id that could be SQL, a path or a decorator is refused by name, and nothing is made."""
    table = bigquery.Table(
        bigquery.TableReference(bigquery.DatasetReference(client.project, dataset), name), schema=FIELDS
    )
    with pytest.raises(BadRequest, match="Invalid table ID"):
        client.create_table(table)
    assert list(client.list_tables(dataset)) == []


@pytest.mark.parametrize("name", ['a"b', "a;b", "a'b", "a.b", "_TABLE_x", "", "a\nb", "a`b"])
def test_hostile_column_names_are_refused(client: bigquery.Client, dataset: str, name: str) -> None:
    """A column name that BigQuery refuses is refused here."""
    with pytest.raises(BadRequest, match=r"Invalid field name|Required field is not set"):
        make(client, f"{dataset}.t", [bigquery.SchemaField(name, "STRING")])


def test_a_view_reads_its_tables_anew(client: bigquery.Client, dataset: str) -> None:
    """A view shows what its table holds now, has a schema, and cannot be written to."""
    table = make(client, f"{dataset}.people")
    view = bigquery.Table(f"{client.project}.{dataset}.adults")
    view.view_query = f"SELECT name, age * 2 AS twice FROM {dataset}.people WHERE age >= 18"
    view.view_use_legacy_sql = False
    made = client.create_table(view)
    assert (made.table_type, [one.name for one in made.schema]) == ("VIEW", ["name", "twice"])
    client.insert_rows_json(table, [{"name": "Ada", "age": 36}, {"name": "Bob", "age": 3}])
    rows = client.query(f"SELECT v.twice FROM `{dataset}.adults` AS v").result()
    assert [tuple(row) for row in rows] == [(72,)]
    with pytest.raises(BadRequest, match="view"):
        client.query(f"DELETE FROM {dataset}.adults WHERE TRUE").result()
