"""One model, trained once by the real job with default settings, and one server of it."""

from collections.abc import Iterator

import pytest

from tests.support.http_process import ServingProcess, serving_process
from tests.support.training import TrainedModel, trained_model


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return trained_model(tmp_path_factory)


@pytest.fixture(scope="session")
def server(trained: TrainedModel) -> Iterator[ServingProcess]:
    with serving_process(str(trained.model_dir)) as process:
        yield process
