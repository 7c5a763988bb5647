"""docs/bigquery.md tells the truth about what answers."""

import re
from pathlib import Path

from localcloud.bigquery import BigQueryServer

DOCUMENT = (Path(__file__).parents[3] / "docs" / "bigquery.md").read_text(encoding="utf-8")


def test_every_method_that_answers_is_listed_and_no_other(tmp_path: Path) -> None:
    """The table of REST methods is the server's own."""
    server = BigQueryServer(data_dir=tmp_path, storage_endpoint="")
    assert set(re.findall(r"`(bigquery\.\w+\.\w+)`", DOCUMENT)) == set(server.methods())
