"""An open engine for a module's tests: DuckDB with everything that the server installs."""

from collections.abc import Iterator

import pytest

from localcloud.bigquery.engine import Engine


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    found = Engine(tmp_path_factory.mktemp("engine"))
    yield found
    found.close()
