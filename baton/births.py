"""The sample births: where they lie, how they get into BigQuery, and what one would ask the model about."""

from importlib import import_module
from pathlib import Path
from typing import Any

from google.auth.credentials import AnonymousCredentials

from baton.connections import KNOWN_FAULTS, Connections, explained
from baton.errors import Refused

SAMPLE = Path("samples") / "natality_2022.csv"
DATASET, TABLE = "samples", "natality"
# Named and typed as in bigquery-public-data.samples.natality.
COLUMNS = (
    ("year", "INTEGER"),
    ("month", "INTEGER"),
    ("weight_pounds", "FLOAT"),
    ("is_male", "BOOLEAN"),
    ("mother_age", "INTEGER"),
    ("plurality", "INTEGER"),
    ("gestation_weeks", "INTEGER"),
)
# (in words, as the model takes it)
EXAMPLES: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "a boy, single, 39 weeks, mother of 28",
        {"is_male": "True", "mother_age": 28, "plurality": "Single(1)", "gestation_weeks": 39},
    ),
    (
        "a girl, twin, 35 weeks, mother of 33",
        {"is_male": "False", "mother_age": 33, "plurality": "Twins(2)", "gestation_weeks": 35},
    ),
)
_LOAD_TIMEOUT_S = 120.0


def sample_file(root: Path) -> Path:
    """Return the sample below `root`.

    Raises:
        Refused: it is not there.
    """
    path = root / SAMPLE
    if not path.is_file():
        raise Refused(f"{path} is not there", "run this in a clone of Baton, which has samples/")
    return path


def load_into_bigquery(connections: Connections, path: Path) -> tuple[str, int]:
    """Load the file into `samples.natality` of the project, replacing what was there; return its URI and row count.

    Raises:
        BatonError: BigQuery refused or did not answer.
    """
    # By name and untyped: this client alone is marked as typed, which makes mypy doubt its untyped neighbours.
    bigquery: Any = import_module("google.cloud.bigquery")
    client = bigquery.Client(project=connections.profile.project, credentials=_credentials(connections))
    table = f"{client.project}.{DATASET}.{TABLE}"
    job = bigquery.LoadJobConfig(
        schema=[bigquery.SchemaField(name, kind) for name, kind in COLUMNS],
        source_format=bigquery.SourceFormat.CSV,
        skip_leading_rows=1,
        write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
    )
    try:
        client.create_dataset(DATASET, exists_ok=True)
        with path.open("rb") as file:
            loading = client.load_table_from_file(file, table, job_config=job)
        loading.result(timeout=_LOAD_TIMEOUT_S)
        return f"bq://{table}", int(loading.output_rows or 0)
    except KNOWN_FAULTS as fault:
        raise explained(fault, f"loading {path} into {table}") from fault
    finally:
        client.close()


def _credentials(connections: Connections) -> Any:
    """None has Google's client find a person's own; a local server over plain http gets none of them."""
    if not connections.profile.get("BIGQUERY_EMULATOR_HOST"):
        return None
    return AnonymousCredentials()  # type: ignore[no-untyped-call]  # google-auth types only a part of itself
