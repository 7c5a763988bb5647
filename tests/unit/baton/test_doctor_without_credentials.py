"""`baton doctor` where Google asks for credentials and there are none that it takes: one cause, said once."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from google.api_core.exceptions import RetryError
from google.auth.exceptions import RefreshError, TransportError

from baton import doctor_cloud
from baton.__main__ import run
from baton.errors import EXIT_FAILED
from messages.topics import AUDIT_SUBSCRIPTIONS, SUBSCRIPTIONS, TOPICS

# Two buckets, every topic and subscription, the notification, the templates, the dead letters.
CHECKS = 2 + len(TOPICS) + len(SUBSCRIPTIONS) + len(AUDIT_SUBSCRIPTIONS) + 3


@pytest.fixture(autouse=True)
def _in_the_cloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Google's own endpoints, and nobody has logged in; the metadata server is not asked either."""
    for name in ("PUBSUB_EMULATOR_HOST", "STORAGE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
    monkeypatch.setenv("BATON_BUCKET", "my-pipeline")
    monkeypatch.setenv("BATON_PIPELINES_DIR", str(Path(__file__).parents[3] / "pipelines"))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")


def test_it_is_said_once_with_the_mend(capsys: pytest.CaptureFixture[str]) -> None:
    """What could not be looked at for this reason is one line with a number."""
    assert run(["doctor"]) == EXIT_FAILED
    lines = capsys.readouterr().out.splitlines()
    (at,) = [number for number, line in enumerate(lines) if "credentials were not found" in line]
    assert "`gcloud auth application-default login`" in lines[at + 1]
    assert lines[at + 2 :] == [f"– {CHECKS} checks skipped: no usable Google credentials", "something is wrong"]


def test_json_names_each_check_that_was_skipped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """With the reason; the one problem names the file that is not there."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    assert run(["doctor", "--json"]) == EXIT_FAILED
    findings = json.loads(capsys.readouterr().out)
    (problem,) = [finding for finding in findings if finding["verdict"] == "problem"]
    assert (problem["where"], "key.json was not found" in problem["what"]) == ("Google credentials", True)
    skipped = [finding for finding in findings if finding["verdict"] == "skipped"]
    assert len(skipped) == CHECKS
    assert {finding["what"] for finding in skipped} == {"no usable Google credentials"}
    assert {"gs://my-pipeline", "gs://my-project-data", "topic data-ready", "templates"} <= {
        f["where"] for f in skipped
    }


def test_what_was_seen_before_a_login_ran_out_stands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only what comes after it is skipped; of the token server's answer, its sentence is shown."""

    def look(connections: Any, name: str) -> Any:
        if name == "my-project-data":
            raise RefreshError("invalid_grant: Token has been revoked.", {"error": "invalid_grant"})
        yield doctor_cloud.Finding(doctor_cloud.Verdict.OK, "bucket", f"gs://{name}")

    monkeypatch.setattr(doctor_cloud, "_bucket", look)
    assert run(["doctor"]) == EXIT_FAILED
    lines = capsys.readouterr().out.splitlines()
    assert "✔ bucket  gs://my-pipeline" in lines
    assert "✘ invalid_grant: Token has been revoked.  Google credentials" in lines
    assert f"– {CHECKS - 1} checks skipped: no usable Google credentials" in lines


def test_a_service_that_does_not_answer_is_asked_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each question is tried again for minutes: on a machine without a network the doctor would take an hour."""
    asked: list[str] = []

    def look(connections: Any, name: str) -> Any:
        asked.append(name)
        raise RetryError("Timeout of 120.0s exceeded", cause=TransportError("no route to host"))
        yield

    for check in ("_bucket", "_topic", "_subscription"):
        monkeypatch.setattr(doctor_cloud, check, look)
    assert run(["doctor", "--json"]) == EXIT_FAILED
    findings = json.loads(capsys.readouterr().out)
    problems = [finding for finding in findings if finding["verdict"] == "problem"]
    assert [finding["where"] for finding in problems] == ["gs://my-pipeline", f"topic {next(iter(TOPICS))}"]
    assert all("network" in finding["mend"] for finding in problems)
    assert len(asked) == 2
    skipped = Counter(finding["what"] for finding in findings if finding["verdict"] == "skipped")
    queues = len(TOPICS) + len(SUBSCRIPTIONS) + len(AUDIT_SUBSCRIPTIONS) - 1
    assert skipped == {"Cloud Storage did not answer": 4, "Pub/Sub did not answer": queues}
