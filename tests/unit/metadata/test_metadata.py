"""The metadata server: what google-auth asks, what is refused, and that nothing but loopback is touched."""

import json
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from localcloud import endpoints
from localcloud.metadata import MetadataServer
from tests.support.loop_thread import LoopThread

# Refuses every socket that is not loopback, then does what any program with Application Default Credentials does.
PROGRAM = """
import json, socket, time
from tests.support import loopback_only
loopback_only.enforce()
import google.auth, google.auth.transport.requests
start = time.monotonic()
credentials, project = google.auth.default()
found_s = time.monotonic() - start
credentials.refresh(google.auth.transport.requests.Request())
answer = {"project": project, "token": credentials.token, "account": credentials.service_account_email}
print(json.dumps({**answer, "universe": credentials.universe_domain, "found_s": found_s, "hosts": loopback_only.seen}))
"""


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with LoopThread() as loop:
        data_dir = tmp_path_factory.mktemp("metadata")
        yield loop.start(MetadataServer(data_dir=data_dir, project="my-project", clock=lambda: 1000.0))


def ask(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port)
    try:
        sent = {"Metadata-Flavor": "Google"} | {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers={name: value for name, value in sent.items() if value})
        response = connection.getresponse()
        assert response.headers["Metadata-Flavor"] == "Google"
        return response.status, response.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("project/project-id", "my-project"),
        ("universe/universe-domain", "googleapis.com"),
        ("instance/service-accounts/default/email", "local"),
        ("instance/service-accounts/local/email", "local"),
        ("instance/zone", "projects/1/zones/us-central1-a"),
        ("instance/service-accounts/", "default/\nlocal/\n"),
    ],
)
def test_it_answers_what_libraries_ask(port: int, path: str, expected: str) -> None:
    """Project, account, universe and place are there under Google's paths."""
    assert ask(port, f"/computeMetadata/v1/{path}") == (200, expected)


def test_the_account_is_no_email(port: int) -> None:
    """google-auth asks the real iamcredentials service about any account that is an e-mail address."""
    status, text = ask(port, "/computeMetadata/v1/instance/service-accounts/default/?recursive=true")
    assert status == 200
    assert "@" not in json.loads(text)["email"]


def test_the_tokens_are_visibly_fake(port: int) -> None:
    """The access token says what it is, and the identity token has no signature."""
    _, text = ask(port, "/computeMetadata/v1/instance/service-accounts/default/token?scopes=x")
    token = json.loads(text)
    assert token == {"access_token": "local-cloud-token-not-a-secret", "expires_in": 3600, "token_type": "Bearer"}
    identity = "/computeMetadata/v1/instance/service-accounts/default/identity"
    assert ask(port, identity)[0] == 400
    status, jwt = ask(port, f"{identity}?audience=https://example.com")
    assert status == 200
    assert jwt.count(".") == 2
    assert jwt.endswith(".")


def test_requests_without_the_header_are_refused(port: int) -> None:
    """As at Google: 403 without Metadata-Flavor, with a wrong one, or through a proxy; 405 for writes; 404 for the rest."""
    path = "/computeMetadata/v1/project/project-id"
    assert ask(port, path, Metadata_Flavor="")[0] == 403
    assert ask(port, path, Metadata_Flavor="Other")[0] == 403
    assert ask(port, path, X_Forwarded_For="10.0.0.1")[0] == 403
    assert ask(port, path, method="POST")[0] == 405
    assert ask(port, "/computeMetadata/v1/instance/attributes/ssh-keys")[0] == 404
    assert ask(port, "/computeMetadata/v1/../../etc/passwd")[0] == 404


def test_default_credentials_resolve_at_once_and_only_on_loopback(port: int, tmp_path: Path) -> None:
    """In a clean process `google.auth.default()` finds the local credentials within a second, touching no real host."""
    environment = {
        **endpoints.variables("metadata", "127.0.0.1", port),
        "CLOUDSDK_CONFIG": str(tmp_path),
        "HOME": str(tmp_path),
        "PATH": "",
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["project"] == "my-project"
    assert answer["token"] == "local-cloud-token-not-a-secret"
    assert answer["account"] == "local"
    assert answer["universe"] == "googleapis.com"
    assert answer["found_s"] < 1
    assert "127.0.0.1" in answer["hosts"]
    assert set(answer["hosts"]) <= {"127.0.0.1", "::1"}  # urllib3 tries whether ::1 can be bound
