"""The job on our BigQuery server: births loaded as a user loads them, read through the Storage Read API."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from beam.babyweight import EXIT_REFUSED
from tests.integration.beam.conftest import ROOT, Job, manifest_of
from tests.support.part_process import PartProcess

SAMPLE = ROOT / "samples" / "natality_2022.csv"
SCHEMA = [
    bigquery.SchemaField("year", "INTEGER"),
    bigquery.SchemaField("month", "INTEGER"),
    bigquery.SchemaField("weight_pounds", "FLOAT"),
    bigquery.SchemaField("is_male", "BOOLEAN"),
    bigquery.SchemaField("mother_age", "INTEGER"),
    bigquery.SchemaField("plurality", "INTEGER"),
    bigquery.SchemaField("gestation_weeks", "INTEGER"),
]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A BigQuery server (REST and Storage Read); yields the variables that lead to it."""
    with PartProcess("bigquery", tmp_path / "bigquery", lines=2) as part:
        yield part.output()


@pytest.fixture
def client(server: dict[str, str]) -> Iterator[bigquery.Client]:
    """The stock client, with a data set that is there."""
    options = ClientOptions(api_endpoint=server["BIGQUERY_EMULATOR_HOST"])
    with bigquery.Client("baton-local", AnonymousCredentials(), client_options=options) as client:
        client.create_dataset("samples")
        yield client


@pytest.mark.slow
def test_a_loaded_table_gives_the_dataset_of_its_file(
    job: Callable[..., Job], server: dict[str, str], client: bigquery.Client, tmp_path: Path
) -> None:
    """The same births from BigQuery and from the file: the same rows, counts and statistics; a limit takes so many."""
    config = bigquery.LoadJobConfig(schema=SCHEMA, source_format="CSV", skip_leading_rows=1)
    with SAMPLE.open("rb") as births:
        client.load_table_from_file(births, "baton-local.samples.natality", job_config=config).result(timeout=60)
    reader = job(**server, GOOGLE_CLOUD_PROJECT="baton-local")
    source = "--source=bq://baton-local.samples.natality"
    done = reader.run(source, f"--output={tmp_path}/table")
    assert done.exit_code == 0, done.lines
    assert job().run(f"--source={SAMPLE}", f"--output={tmp_path}/file").exit_code == 0
    of_table, of_file = manifest_of(tmp_path / "table"), manifest_of(tmp_path / "file")
    for key in ("input_rows", "columns"):
        assert of_table[key] == of_file[key]
    for split in ("train", "eval"):
        assert of_table[split]["rows"] == of_file[split]["rows"]
    assert of_table["rejects"]["by_reason"] == of_file["rejects"]["by_reason"]
    for column, found in of_file["statistics"].items():
        assert of_table["statistics"][column] == (pytest.approx(found) if "mean" in found else found)
    assert reader.run(source, f"--output={tmp_path}/first", "--limit=1000").exit_code == 0
    assert manifest_of(tmp_path / "first")["input_rows"] == 1000


@pytest.mark.slow
def test_an_empty_table_and_none_at_all(
    job: Callable[..., Job], server: dict[str, str], client: bigquery.Client, tmp_path: Path
) -> None:
    """A table without rows, one that does not exist, one that lacks a column: each is told by name."""
    client.create_table(bigquery.Table("baton-local.samples.empty", SCHEMA))
    client.create_table(bigquery.Table("baton-local.samples.short", SCHEMA[:-1]))
    reader = job(**server, GOOGLE_CLOUD_PROJECT="baton-local")
    for table, kind in (("empty", "EmptySource"), ("none", "SourceNotFound"), ("short", "MissingColumns")):
        done = reader.run(f"--source=bq://baton-local.samples.{table}", f"--output={tmp_path}/{table}")
        assert done.exit_code == EXIT_REFUSED
        assert (done.last["error"], f"bq://baton-local.samples.{table}" in done.last["message"]) == (kind, True), (
            done.last
        )
