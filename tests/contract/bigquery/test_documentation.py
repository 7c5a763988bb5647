"""The examples in docs/bigquery.md run as they are shown."""

import re
from pathlib import Path
from typing import Any

import pytest
from google.cloud import bigquery

ROOT = Path(__file__).parents[3]


def test_the_examples_run(client: bigquery.Client, addresses: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the project's folder, with the two variables set, the lines do what the text says."""
    text = (ROOT / "docs" / "bigquery.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", addresses.rest)
    monkeypatch.setenv("BATON_BIGQUERY_STORAGE_ENDPOINT", addresses.read)
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    try:
        assert client.get_table("births.natality").num_rows == 20_000
        session = names["reader"].create_read_session(  # type: ignore[attr-defined]
            parent="projects/baton-local",
            read_session={"table": "projects/baton-local/datasets/births/tables/natality", "data_format": "ARROW"},
            max_stream_count=2,
        )
        assert session.estimated_row_count == 20_000
    finally:
        names["channel"].close()  # type: ignore[attr-defined]
        names["client"].close()  # type: ignore[attr-defined]
        client.delete_dataset("births", delete_contents=True)
