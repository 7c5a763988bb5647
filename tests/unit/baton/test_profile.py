"""Which cloud a command talks to."""

import json
import socket
from pathlib import Path

import pytest

from baton.errors import ProfileError, Unreachable
from baton.profile import find_home, host_and_port, load_profile, local_profile

ENDPOINTS = {
    "GOOGLE_CLOUD_PROJECT": "baton-local",
    "PUBSUB_EMULATOR_HOST": "127.0.0.1:1",
    "STORAGE_EMULATOR_HOST": "http://127.0.0.1:1",
}


def local_cloud(folder: Path, endpoints: dict[str, str] = ENDPOINTS) -> Path:
    path = folder / ".baton" / "cloud" / "endpoints.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(endpoints))
    return path


def test_without_settings_the_local_cloud_is_used(tmp_path: Path) -> None:
    """Endpoints come from the file, buckets and region from defaults."""
    local_cloud(tmp_path)
    profile = load_profile({"PATH": "/bin"}, tmp_path)
    assert profile.is_local
    assert profile.get("PUBSUB_EMULATOR_HOST") == "127.0.0.1:1"
    assert (profile.project, profile.bucket, profile.data_bucket, profile.region) == (
        "baton-local",
        "baton-local-pipeline",
        "baton-local-data",
        "us-central1",
    )


def test_a_folder_below_finds_the_local_cloud_too(tmp_path: Path) -> None:
    """A notebook in a sub-folder needs no settings."""
    local_cloud(tmp_path)
    below = tmp_path / "notebooks" / "old"
    below.mkdir(parents=True)
    assert load_profile({}, below).home == tmp_path / ".baton"


def test_baton_home_says_where_the_local_cloud_is(tmp_path: Path) -> None:
    """The variable wins over what lies around."""
    local_cloud(tmp_path)
    assert find_home({"BATON_HOME": "/elsewhere"}, tmp_path) == Path("/elsewhere")


@pytest.mark.parametrize("name", ["GOOGLE_CLOUD_PROJECT", "PUBSUB_EMULATOR_HOST"])
def test_the_environment_is_never_mixed_with_local_endpoints(tmp_path: Path, name: str) -> None:
    """A project of the environment goes with the environment's endpoints, or Google's, and with nothing of the file."""
    local_cloud(tmp_path)
    profile = load_profile({name: "mine"}, tmp_path)
    assert not profile.is_local
    assert profile.source.startswith("the environment")
    assert ("unset it" in profile.source) is (name == "GOOGLE_CLOUD_PROJECT"), "a local cloud left alone is said"
    assert profile.get("STORAGE_EMULATOR_HOST") == ""
    assert dict(profile.variables) == {name: "mine"}


def test_a_persons_credentials_are_kept_from_local_servers(tmp_path: Path) -> None:
    """A key file in the environment is taken away where the endpoints are local, and proxies are passed by."""
    environment = {"GOOGLE_APPLICATION_CREDENTIALS": "/key.json", "NO_PROXY": "intranet", "HOME": "/home/me"}
    profile = local_profile(environment, tmp_path, ENDPOINTS)
    child = profile.environment(environment)
    assert "GOOGLE_APPLICATION_CREDENTIALS" not in child
    assert child["NO_PROXY"] == "intranet,127.0.0.1,localhost"
    assert child["HOME"] == "/home/me"
    profile.apply(environment)
    assert environment["PUBSUB_EMULATOR_HOST"] == "127.0.0.1:1"
    assert "GOOGLE_APPLICATION_CREDENTIALS" not in environment


def test_ones_own_settings_count_for_the_local_cloud(tmp_path: Path) -> None:
    """A BATON_ variable replaces a default, never an endpoint."""
    own = {"BATON_BUCKET": "mine", "BATON_POLL_MAX_S": "9", "STORAGE_EMULATOR_HOST": "http://other:1"}
    profile = local_profile(own, tmp_path, ENDPOINTS)
    assert (profile.bucket, profile.get("BATON_POLL_MAX_S")) == ("mine", "9")
    assert profile.get("STORAGE_EMULATOR_HOST") == "http://127.0.0.1:1"


def test_no_cloud_at_all_is_said_with_the_mend(tmp_path: Path) -> None:
    """The error names both ways out."""
    with pytest.raises(ProfileError, match="baton up") as caught:
        load_profile({}, tmp_path)
    assert "GOOGLE_CLOUD_PROJECT" in caught.value.mend


@pytest.mark.parametrize("content", ["{", "[]", '{"A": 1}'])
def test_a_broken_endpoints_file_is_named(tmp_path: Path, content: str) -> None:
    """The error names the file and how to have a good one."""
    path = local_cloud(tmp_path)
    path.write_text(content)
    with pytest.raises(ProfileError, match=r"endpoints\.json") as caught:
        load_profile({}, tmp_path)
    assert "remove it" in caught.value.mend


def test_a_stale_local_cloud_is_said_with_the_mend(tmp_path: Path) -> None:
    """Where nothing answers, the endpoint is named at once instead of after minutes of retries."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    local_cloud(tmp_path, {**ENDPOINTS, "PUBSUB_EMULATOR_HOST": f"127.0.0.1:{port}"})
    with pytest.raises(Unreachable, match=f"PUBSUB_EMULATOR_HOST=127.0.0.1:{port}") as caught:
        load_profile({}, tmp_path).require_answers()
    assert "baton up" in caught.value.mend


def test_endpoints_that_listen_are_no_finding(tmp_path: Path) -> None:
    """A server that accepts connections answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        endpoints = {"PUBSUB_EMULATOR_HOST": address, "STORAGE_EMULATOR_HOST": f"http://{address}"}
        assert local_profile({}, tmp_path, endpoints).silent_addresses() == []


def test_a_missing_bucket_is_said_with_the_variable(tmp_path: Path) -> None:
    """In the cloud the pipeline bucket has no default."""
    with pytest.raises(ProfileError, match="BATON_BUCKET"):
        load_profile({"GOOGLE_CLOUD_PROJECT": "mine"}, tmp_path).bucket  # noqa: B018 - reading it is the test


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:8085", "127.0.0.1:8085"),
        ("http://storage:4443", "storage:4443"),
        ("https://us-central1-aiplatform.googleapis.com", "us-central1-aiplatform.googleapis.com:443"),
    ],
)
def test_addresses_are_read_with_and_without_a_scheme(address: str, expected: str) -> None:
    """Emulator variables come in both forms."""
    assert host_and_port(address) == expected


@pytest.mark.parametrize("address", ["localhost:abc", "127.0.0.1:99999", "::", "http://"])
def test_what_is_no_address_is_said_with_the_variable(tmp_path: Path, address: str) -> None:
    """And with what stands there."""
    profile = load_profile({"PUBSUB_EMULATOR_HOST": address}, tmp_path)
    with pytest.raises(ProfileError, match=f"PUBSUB_EMULATOR_HOST={address} is no address") as told:
        profile.require_answers()
    assert "127.0.0.1:8085" in told.value.mend
