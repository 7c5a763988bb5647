"""The server is set by Vertex AI's variables, and a setting that cannot be used is refused by name."""

import pytest

from serving.errors import StartError
from serving.settings import parse

VERTEX = {
    "AIP_STORAGE_URI": "gs://copy/model",
    "AIP_HTTP_PORT": "8081",
    "AIP_HEALTH_ROUTE": "/v1/endpoints/1/deployedModels/2",
    "AIP_PREDICT_ROUTE": "/v1/endpoints/1/deployedModels/2:predict",
}


def test_vertex_variables_are_read_and_flags_win() -> None:
    """AIP_* variables set the server; a flag of the same meaning wins over them."""
    settings = parse(["--port", "9000"], VERTEX)
    assert (settings.storage_uri, settings.port) == ("gs://copy/model", 9000)
    assert settings.predict_route == "/v1/endpoints/1/deployedModels/2:predict"


def test_only_this_machine_can_reach_the_server_unless_told_otherwise() -> None:
    """Loopback is the default, also when Vertex AI's variables are set; a container gives --host."""
    assert parse([], VERTEX).host == "127.0.0.1"
    assert parse(["--host", "0.0.0.0"], VERTEX).host == "0.0.0.0"
    assert parse([], VERTEX | {"BATON_SERVING_HOST": "::1"}).host == "::1"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"AIP_STORAGE_URI": ""}, ["AIP_STORAGE_URI", "training job"]),
        ({"AIP_HTTP_PORT": "http"}, ["http", "AIP_HTTP_PORT", "65535"]),
        ({"AIP_HTTP_PORT": "65536"}, ["65536"]),
        ({"AIP_HEALTH_ROUTE": "health"}, ["health", "AIP_HEALTH_ROUTE"]),
        ({"BATON_SERVING_MAX_BODY_BYTES": "0"}, ["0", "BATON_SERVING_MAX_BODY_BYTES"]),
    ],
)
def test_a_bad_setting_is_refused_by_name(change: dict[str, str], words: list[str]) -> None:
    """The refusal names value, place and mend."""
    with pytest.raises(StartError) as refusal:
        parse([], VERTEX | change)
    assert all(word in str(refusal.value) for word in words)


def test_an_unknown_flag_is_refused() -> None:
    """A mistyped flag is not ignored."""
    with pytest.raises(StartError, match="--prot"):
        parse(["--prot", "1"], VERTEX)
