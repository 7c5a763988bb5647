"""Names of projects, datasets, tables, columns and jobs: which BigQuery takes, and how they are written into SQL.

No name from a request ever becomes a DuckDB table or file name: tables live under names of our own (`new_physical`), so an
odd or hostile id can at worst be refused.
"""

from __future__ import annotations

import re
import unicodedata
import uuid
from dataclasses import dataclass

from localcloud.bigquery.errors import Invalid

# Anonymous results live here, as Google's do in `_<hash>` datasets: not listed, gone after a day.
ANONYMOUS_DATASET = "_anonymous"

_MAX_ID_BYTES = 1024
_MAX_COLUMN_CHARACTERS = 300
_PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_DATASET = re.compile(r"[A-Za-z0-9_]+")
_JOB = re.compile(r"[A-Za-z0-9_-]+")
_COLUMN = re.compile(r"\w[\w -]*")
# Prefixes that BigQuery keeps for itself.
_RESERVED_COLUMNS = ("_table_", "_file_", "_partition", "_row_timestamp", "__root__", "_colidentifier", "__complaint")
# Letters, marks, numbers, connectors, dashes, spaces: the Unicode categories of a table id.
_TABLE_CATEGORIES = frozenset("LMN")
_TABLE_MORE = frozenset(("Pc", "Pd", "Zs"))


@dataclass(frozen=True, slots=True)
class TableRef:
    """`project.dataset.table`, checked."""

    project: str
    dataset: str
    table: str

    def __str__(self) -> str:
        return f"{self.project}:{self.dataset}.{self.table}"

    def to_json(self) -> dict[str, str]:
        """The `TableReference` of the REST API."""
        return {"projectId": self.project, "datasetId": self.dataset, "tableId": self.table}

    @classmethod
    def from_json(cls, value: dict[str, str], *, project: str, what: str) -> TableRef:
        """Read and check a `TableReference`; `project` stands in where none is given.

        Raises:
            Invalid: a part is missing or is no valid id.
        """
        dataset, table = value.get("datasetId", ""), value.get("tableId", "")
        if not dataset or not table:
            raise Invalid(f"{what} needs both datasetId and tableId, it has {value}; give both.")
        return cls(check_project(value.get("projectId") or project), check_dataset(dataset), check_table(table))


def check_project(value: str) -> str:
    """Return the project id, or raise Invalid."""
    if not _PROJECT.fullmatch(value):
        raise Invalid(f'Invalid project ID "{value}": use letters, digits and dashes.')
    return value


def check_dataset(value: str) -> str:
    """Return the dataset id, or raise Invalid in Google's words."""
    if not _DATASET.fullmatch(value) or len(value) > _MAX_ID_BYTES:
        raise Invalid(
            f'Invalid dataset ID "{value}". Dataset IDs must be alphanumeric (plus underscores) and must be at most '
            f"{_MAX_ID_BYTES} characters long."
        )
    return value


def check_table(value: str) -> str:
    """Return the table id, or raise Invalid in Google's words."""
    good = 0 < len(value.encode(errors="replace")) <= _MAX_ID_BYTES and all(
        (category := unicodedata.category(one))[0] in _TABLE_CATEGORIES or category in _TABLE_MORE for one in value
    )
    if not good:
        raise Invalid(
            f'Invalid table ID "{value}". Table IDs must be alphanumeric (plus underscores, dashes and spaces) and must be '
            f"at most {_MAX_ID_BYTES} characters long. Partition decorators ($) and wildcards (*) are not offered locally."
        )
    return value


def check_job(value: str) -> str:
    """Return the job id, or raise Invalid in Google's words."""
    if not _JOB.fullmatch(value) or len(value) > _MAX_ID_BYTES:
        raise Invalid(
            f'Invalid job ID "{value}". Job IDs must be alphanumeric (plus underscores and dashes) and must be at most '
            f"{_MAX_ID_BYTES} characters long."
        )
    return value


def check_column(value: str, place: str = "") -> str:
    """Return the column name, or raise Invalid in Google's words."""
    bad = not _COLUMN.fullmatch(value) or len(value) > _MAX_COLUMN_CHARACTERS
    if bad or value.lower().startswith(_RESERVED_COLUMNS):
        where = f" in {place}" if place else ""
        raise Invalid(
            f'Invalid field name "{value}"{where}. Fields must contain only letters, numbers, underscores, dashes and '
            f"spaces, start with a letter, number or underscore, and be at most {_MAX_COLUMN_CHARACTERS} characters long."
        )
    return value


def mend_column(value: str, position: int) -> str:
    """Make a column name out of a file's header, as BigQuery's autodetection does: odd characters become underscores."""
    name = re.sub(r"[^\w]", "_", value.strip(), flags=re.ASCII)[:_MAX_COLUMN_CHARACTERS]
    if not name:
        return f"string_field_{position}"
    if name[0].isdigit() or name.lower().startswith(_RESERVED_COLUMNS):
        name = f"_{name}"
    return name


def new_physical() -> str:
    """A DuckDB table name that no request can guess or shape."""
    return f"t_{uuid.uuid4().hex}"


def quote(name: str) -> str:
    """Write a name as a SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """Write a text as a SQL string."""
    return "'" + value.replace("'", "''") + "'"
