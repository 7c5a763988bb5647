"""Vertex AI models as the stock client sees them."""

import json
from typing import Any

import pytest
from google.cloud import storage
from googleapiclient.errors import HttpError

from tests.contract.jobs.conftest import PARENT
from tests.support.waiting import wait_until


def refused(action: Any) -> dict[str, Any]:
    with pytest.raises(HttpError) as caught:
        action()
    return json.loads(caught.value.content)["error"]


def model(name: str, **fields: Any) -> dict[str, Any]:
    return {"displayName": name, "labels": {"run": name}, "containerSpec": {"imageUri": "r/server"}, **fields}


def outcome(vertex: Any, operation: dict[str, Any]) -> dict[str, Any]:
    """Wait for an operation of a model and return it."""
    operations = vertex.models().operations()

    def look() -> dict[str, Any] | None:
        found = operations.get(name=operation["name"]).execute()
        return found if found.get("done") else None

    found = wait_until(look, what="the operation's end")
    assert found is not None
    return found


def upload(vertex: Any, body: dict[str, Any], **request: Any) -> dict[str, Any]:
    """Upload and return the operation's response."""
    operation = vertex.models().upload(parent=PARENT, body={"model": body, **request}).execute()
    assert "/operations/" in operation["name"]
    done = outcome(vertex, operation)
    assert "error" not in done, done
    return done["response"]


def test_upload_copies_the_artifacts(vertex: Any, bucket: storage.Bucket, name: str) -> None:
    """What is served is a copy made at upload, in a bucket of the service; overwriting the source changes nothing."""
    bucket.blob(f"{name}/model.tflite").upload_from_string(b"weights")
    bucket.blob(f"{name}/sub/a b.txt").upload_from_string(b"more")
    answer = upload(vertex, model(name, artifactUri=f"gs://{bucket.name}/{name}/"), modelId=name)
    assert answer["model"] == f"{PARENT}/models/{name}"
    assert answer["modelVersionId"] == "1"
    shown = vertex.models().get(name=answer["model"]).execute()
    assert shown["artifactUri"] == f"gs://{bucket.name}/{name}/"
    assert shown["versionAliases"] == ["default"]
    bucket.blob(f"{name}/model.tflite").upload_from_string(b"overwritten")
    copies = list(bucket.client.list_blobs("caip-tenant-baton-local", prefix=f"{name}/1/"))
    assert [(blob.name.partition("/artifacts/")[2], blob.download_as_bytes()) for blob in copies] == [
        ("model.tflite", b"weights"),
        ("sub/a b.txt", b"more"),
    ]
    outcome(vertex, vertex.models().delete(name=answer["model"]).execute())
    assert list(bucket.client.list_blobs("caip-tenant-baton-local", prefix=f"{name}/")) == []


def test_a_missing_artifact_fails_the_operation(vertex: Any, bucket: storage.Bucket, name: str) -> None:
    """An artifact directory without objects fails the upload's operation, and no model remains."""
    body = {"model": model(name, artifactUri=f"gs://{bucket.name}/none"), "modelId": name}
    done = outcome(vertex, vertex.models().upload(parent=PARENT, body=body).execute())
    assert done["error"]["code"] == 5
    assert f"gs://{bucket.name}/none" in done["error"]["message"]
    assert refused(lambda: vertex.models().get(name=f"{PARENT}/models/{name}").execute())["code"] == 404


def test_a_chosen_id_is_given_once(vertex: Any, name: str) -> None:
    """A second upload with the same modelId is refused: that makes a repeated upload safe."""
    upload(vertex, model(name), modelId=name)
    body = {"model": model(name), "modelId": name}
    error = refused(lambda: vertex.models().upload(parent=PARENT, body=body).execute())
    assert error["code"] == 409
    assert error["status"] == "ALREADY_EXISTS"
    elsewhere = {"model": model(name), "parentModel": f"projects/other/locations/eu/models/{name}"}
    error = refused(lambda: vertex.models().upload(parent=PARENT, body=elsewhere).execute())
    assert "projects/other" in error["message"]


def test_versions_and_aliases(vertex: Any, name: str) -> None:
    """parentModel adds versions; aliases move; exactly one version is the default; numbers are never reused."""
    models = vertex.models()
    parent = upload(vertex, model(name), modelId=name)["model"]
    for number in (2, 3):
        body = model(name, labels={"run": f"v{number}"}, versionAliases=["golden"])
        assert upload(vertex, body, parentModel=parent)["modelVersionId"] == str(number)
    shown = models.listVersions(name=parent).execute()["models"]
    assert [(m["versionId"], sorted(m.get("versionAliases", []))) for m in shown] == [
        ("3", ["golden"]),
        ("2", []),
        ("1", ["default"]),
    ]
    assert [m["name"] for m in shown] == [f"{parent}@{number}" for number in (3, 2, 1)]
    found = models.listVersions(name=parent, filter="labels.run=v2").execute()["models"]
    assert [m["versionId"] for m in found] == ["2"]
    assert models.get(name=parent).execute()["versionId"] == "1"
    assert models.get(name=parent + "@golden").execute()["versionId"] == "3"
    moved = models.mergeVersionAliases(name=parent + "@2", body={"versionAliases": ["default", "prod"]}).execute()
    assert sorted(moved["versionAliases"]) == ["default", "prod"]
    assert models.get(name=parent).execute()["versionId"] == "2"
    merged = models.mergeVersionAliases(name=parent + "@2", body={"versionAliases": ["-prod"]}).execute()
    assert merged["versionAliases"] == ["default"]
    for change in (["-default"], ["Capital"], ["2"]):
        body = {"versionAliases": change}
        assert (
            refused(lambda body=body: models.mergeVersionAliases(name=parent + "@2", body=body).execute())["code"]
            == 400
        )  # type: ignore[misc]
    assert refused(lambda: models.deleteVersion(name=parent + "@2").execute())["status"] == "FAILED_PRECONDITION"
    outcome(vertex, models.deleteVersion(name=parent + "@3").execute())
    assert refused(lambda: models.get(name=parent + "@3").execute())["code"] == 404
    assert upload(vertex, model(name), parentModel=parent)["modelVersionId"] == "4"


def test_list_patch_and_delete(vertex: Any, name: str) -> None:
    """Models are listed by filter, patched by mask, and gone after delete."""
    models = vertex.models()
    resource = upload(vertex, model(name), modelId=name)["model"]
    for filter_text in (f"labels.run={name}", f'displayName="{name}"', f"model={name}"):
        answer = models.list(parent=PARENT, filter=filter_text).execute()
        assert [m["name"] for m in answer["models"]] == [resource]
    body = {"displayName": "new name", "labels": {"run": "other"}, "description": "not in the mask"}
    patched = models.patch(name=resource, updateMask="displayName,labels", body=body).execute()
    assert patched["displayName"] == "new name"
    assert patched["labels"] == {"run": "other"}
    assert "description" not in patched
    error = refused(lambda: models.patch(name=resource, updateMask="artifactUri", body=body).execute())
    assert "'artifactUri' can not be changed" in error["message"]
    stale = {"displayName": "x", "etag": "1"}
    assert refused(lambda: models.patch(name=resource, updateMask="displayName", body=stale).execute())["code"] == 409
    outcome(vertex, models.delete(name=resource).execute())
    assert models.list(parent=PARENT, filter=f"model={name}").execute() == {}


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        ({"displayName": ""}, "display_name"),
        ({"containerSpec": {}}, "container_spec.image_uri"),
        ({"containerSpec": None}, "container_spec must be set"),
        ({"artifactUri": "/local/path"}, "'/local/path' is not a Cloud Storage URI"),
        ({"versionAliases": ["1"]}, "'1'"),
        ({"containerSpec": {"imageUri": "x", "predictRoute": "predict"}}, "must begin with a slash"),
        ({"containerSpec": {"imageUri": "x", "ports": [{"containerPort": "many"}]}}, "container_port"),
    ],
)
def test_refusals_name_the_field(vertex: Any, name: str, change: dict[str, Any], fragment: str) -> None:
    """What Vertex AI would refuse at upload is refused, naming the field."""
    body = {"model": {**model(name), **change}}
    error = refused(lambda: vertex.models().upload(parent=PARENT, body=body).execute())
    assert error["code"] == 400
    assert fragment in error["message"]


@pytest.mark.parametrize("model_id", ["1abc", "-a", "A", "a" * 64, "../x", "a/b"])
def test_model_ids(vertex: Any, model_id: str) -> None:
    """A chosen id that could not be a model's is refused."""
    body = {"model": model("x"), "modelId": model_id}
    assert "model_id" in refused(lambda: vertex.models().upload(parent=PARENT, body=body).execute())["message"]
