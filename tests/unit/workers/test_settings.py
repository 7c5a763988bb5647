"""Settings: unset, empty and malformed are told apart, and a bad one stops the start."""

import pytest

from workers.errors import SettingsError
from workers.settings import TABLE, Settings, help_text, worker_id

GOOD = {"GOOGLE_CLOUD_PROJECT": "p", "BATON_BUCKET": "b"}


def test_the_defaults_are_a_cloud_worker() -> None:
    """Only project and bucket must be given; no endpoint means Google's."""
    options = Settings.from_environment(GOOD)
    assert (options.dataflow_endpoint, options.region) == ("", "us-central1")
    assert options.image("baton-trainer") == "us-central1-docker.pkg.dev/p/baton/baton-trainer:latest"
    assert options.image("registry/x/y:1") == "registry/x/y:1"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"BATON_BUCKET": ""}, ("BATON_BUCKET", "empty")),
        ({"GOOGLE_CLOUD_PROJECT": None}, ("GOOGLE_CLOUD_PROJECT", "unset")),
        ({"BATON_SETTLE_S": "soon"}, ("BATON_SETTLE_S='soon'", "number")),
        ({"BATON_THREADS": "0"}, ("BATON_THREADS=0", "from 1 to 256")),
        ({"BATON_DATAFLOW_ENDPOINT": "localhost:80"}, ("BATON_DATAFLOW_ENDPOINT", "address")),
        ({"BATON_POLL_MAX_S": "0.01"}, ("BATON_POLL_MAX_S=0.01", "BATON_POLL_FIRST_S")),
    ],
)
def test_a_bad_setting_names_variable_value_and_mend(change: dict[str, str | None], words: tuple[str, ...]) -> None:
    """The error can be acted on."""
    environment = {k: v for k, v in {**GOOD, **change}.items() if v is not None}
    with pytest.raises(SettingsError) as refusal:
        Settings.from_environment(environment)
    assert all(word in str(refusal.value) for word in words)


def test_help_tells_every_setting() -> None:
    """No setting is a secret."""
    assert all(option.variable in help_text() for option in TABLE)


def test_a_restarted_worker_is_somebody_else() -> None:
    """Two lives of one process id are told apart."""
    assert worker_id() != worker_id()
