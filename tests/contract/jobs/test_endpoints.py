"""Vertex AI endpoints as the stock client sees them: real serving processes behind a traffic split."""

import collections
import itertools
import json
from typing import Any

import httpx
import pytest
from google.cloud import storage
from googleapiclient.errors import HttpError

from tests.contract.jobs.conftest import PARENT
from tests.support.waiting import wait_until

_numbers = itertools.count()
RESOURCES = {"machineSpec": {"machineType": "n1-standard-2"}, "minReplicaCount": 1}


def refused(action: Any) -> dict[str, Any]:
    with pytest.raises(HttpError) as caught:
        action()
    return json.loads(caught.value.content)["error"]


def outcome(operations: Any, operation: dict[str, Any]) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found = operations.get(name=operation["name"]).execute()
        return found if found.get("done") else None

    found = wait_until(look, timeout_s=20, what="the operation's end")
    assert found is not None
    return found


def upload(vertex: Any, **container: Any) -> str:
    """Upload a model that our little server serves; return its name."""
    container = {"imageUri": "r/server", "healthRoute": "/health", "predictRoute": "/predict", **container}
    body = {"model": {"displayName": "m", "containerSpec": container}, "modelId": f"m{next(_numbers)}"}
    operation = vertex.models().upload(parent=PARENT, body=body).execute()
    return str(outcome(vertex.models().operations(), operation)["response"]["model"])


def deploy(vertex: Any, endpoint: str, model: str, split: dict[str, int], **deployed: Any) -> dict[str, Any]:
    """Deploy and return the finished operation."""
    body = {"deployedModel": {"model": model, "dedicatedResources": RESOURCES, **deployed}, "trafficSplit": split}
    operation = vertex.endpoints().deployModel(endpoint=endpoint, body=body).execute()
    return outcome(vertex.endpoints().operations(), operation)


def undeploy(vertex: Any, endpoint: str, deployed_id: str, **fields: Any) -> Any:
    body = {"deployedModelId": deployed_id, **fields}
    return vertex.endpoints().undeployModel(endpoint=endpoint, body=body).execute()


def predict(vertex: Any, endpoint: str, *instances: Any) -> dict[str, Any]:
    return vertex.endpoints().predict(endpoint=endpoint, body={"instances": list(instances)}).execute()


@pytest.fixture
def endpoint(vertex: Any, name: str) -> str:
    create = vertex.endpoints().create(parent=PARENT, endpointId=name, body={"displayName": name})
    return str(create.execute()["response"]["name"])


def test_create_is_idempotent_by_id(vertex: Any, name: str) -> None:
    """Creating an endpoint with a chosen id answers an operation; a repeat is ALREADY_EXISTS."""
    body = {"displayName": "weights", "labels": {"pipeline": "babyweight"}}
    operation = vertex.endpoints().create(parent=PARENT, endpointId=name, body=body).execute()
    resource = f"{PARENT}/endpoints/{name}"
    assert operation["name"].startswith(resource + "/operations/")
    assert operation["done"]
    assert operation["response"]["name"] == resource
    error = refused(lambda: vertex.endpoints().create(parent=PARENT, endpointId=name, body=body).execute())
    assert (error["code"], error["status"]) == (409, "ALREADY_EXISTS")
    shown = vertex.endpoints().get(name=resource).execute()
    assert shown["labels"] == {"pipeline": "babyweight"}
    assert "deployedModels" not in shown
    found = vertex.endpoints().list(parent=PARENT, filter=f"endpoint={name}").execute()["endpoints"]
    assert [e["name"] for e in found] == [resource]


def test_a_deployed_model_predicts(vertex: Any, endpoint: str, bucket: storage.Bucket, name: str) -> None:
    """Deploying starts a server with Vertex's environment; predict says which model answered."""
    bucket.blob(f"{name}/model.tflite").upload_from_string(b"weights")
    container = {
        "imageUri": "r/server",
        "healthRoute": "/health",
        "predictRoute": "/predict",
        "env": [{"name": "GREETING", "value": "hello $(AIP_ENDPOINT_ID)"}],
    }
    model = {"displayName": "m", "containerSpec": container, "artifactUri": f"gs://{bucket.name}/{name}"}
    operation = vertex.models().upload(parent=PARENT, body={"model": model, "modelId": name}).execute()
    resource = outcome(vertex.models().operations(), operation)["response"]["model"]
    done = deploy(vertex, endpoint, resource + "@default", {"0": 100}, id="7")
    assert done["response"]["deployedModel"]["id"] == "7"
    answer = predict(vertex, endpoint, "x")
    assert answer["deployedModelId"] == "7"
    assert answer["model"] == resource
    assert answer["modelVersionId"] == "1"
    (seen,) = answer["predictions"]
    copy_bucket, copy_prefix = seen["AIP_STORAGE_URI"].removeprefix("gs://").split("/", 1)
    copy = bucket.client.bucket(copy_bucket).blob(f"{copy_prefix}/model.tflite")
    assert (copy_bucket, copy.download_as_bytes()) == ("caip-tenant-baton-local", b"weights")
    assert seen["AIP_ENDPOINT_ID"] == endpoint.rpartition("/")[2]
    assert seen["AIP_DEPLOYED_MODEL_ID"] == "7"
    assert seen["AIP_FRAMEWORK"] == "CUSTOM_CONTAINER"
    assert seen["GREETING"] == f"hello {seen['AIP_ENDPOINT_ID']}"
    shown = vertex.endpoints().get(name=endpoint).execute()
    assert shown["trafficSplit"] == {"7": 100}
    assert [(d["id"], d["model"], d["modelVersionId"]) for d in shown["deployedModels"]] == [("7", resource, "1")]
    refs = vertex.models().get(name=resource).execute()["deployedModels"]
    assert refs == [{"endpoint": endpoint, "deployedModelId": "7"}]
    assert refused(lambda: vertex.models().delete(name=resource).execute())["status"] == "FAILED_PRECONDITION"
    assert refused(lambda: vertex.endpoints().delete(name=endpoint).execute())["status"] == "FAILED_PRECONDITION"
    undeploy(vertex, endpoint, "7")
    assert "deployedModels" not in vertex.endpoints().get(name=endpoint).execute()
    assert vertex.endpoints().delete(name=endpoint).execute()["done"]


def test_default_routes(vertex: Any, endpoint: str) -> None:
    """Without routes of its own a container is asked at Vertex's default ones."""
    deploy(vertex, endpoint, upload(vertex, healthRoute="", predictRoute=""), {"0": 100}, id="8")
    (seen,) = predict(vertex, endpoint, "x")["predictions"]
    short = endpoint.rpartition("/")[2]
    assert seen["AIP_HEALTH_ROUTE"] == f"/v1/endpoints/{short}/deployedModels/8"
    assert seen["AIP_PREDICT_ROUTE"] == f"/v1/endpoints/{short}/deployedModels/8:predict"


def test_canary_promote_rollback(vertex: Any, endpoint: str) -> None:
    """Traffic follows the split exactly: canary, promotion by patch, undeploy of the old one."""
    deploy(vertex, endpoint, upload(vertex), {"0": 100}, id="1")
    deploy(vertex, endpoint, upload(vertex), {"1": 90, "0": 10}, id="2")
    answers = collections.Counter(predict(vertex, endpoint, "x")["deployedModelId"] for _ in range(100))
    assert answers == {"1": 90, "2": 10}
    error = refused(lambda: undeploy(vertex, endpoint, "1"))
    assert error["status"] == "FAILED_PRECONDITION"
    assert "90 %" in error["message"]
    for split in ({"2": 50}, {"2": 101}, {"2": 60, "1": 60}, {"2": -10, "1": 110}):
        body = {"trafficSplit": split}
        request = vertex.endpoints().patch(name=endpoint, updateMask="trafficSplit", body=body)
        assert refused(request.execute)["code"] == 400
    body = {"trafficSplit": {"9": 100}}
    request = vertex.endpoints().patch(name=endpoint, updateMask="traffic_split", body=body)
    assert "The following DeployedModel ID(s) [9] do not exist." in refused(request.execute)["message"]
    body = {"trafficSplit": {"2": 100}, "displayName": "not in the mask"}
    patched = vertex.endpoints().patch(name=endpoint, updateMask="trafficSplit", body=body).execute()
    assert patched["trafficSplit"] == {"2": 100}
    assert patched["displayName"] != "not in the mask"
    assert {predict(vertex, endpoint, "x")["deployedModelId"] for _ in range(10)} == {"2"}
    undeploy(vertex, endpoint, "1")
    assert [d["id"] for d in vertex.endpoints().get(name=endpoint).execute()["deployedModels"]] == ["2"]


def test_undeploy_may_move_the_traffic(vertex: Any, endpoint: str) -> None:
    """undeployModel with a traffic split moves the traffic and removes the model in one step."""
    model = upload(vertex)
    deploy(vertex, endpoint, model, {"0": 100}, id="1")
    deploy(vertex, endpoint, model, {}, id="2")
    undeploy(vertex, endpoint, "1", trafficSplit={"2": 100})
    assert predict(vertex, endpoint, "x")["deployedModelId"] == "2"
    assert "does not exist" in refused(lambda: undeploy(vertex, endpoint, "1"))["message"]


def test_a_server_that_dies_is_restarted(vertex: Any, endpoint: str) -> None:
    """While a dead server is restarted, predict answers 503 UNAVAILABLE; then it serves again."""
    deploy(vertex, endpoint, upload(vertex), {"0": 100})
    error = refused(lambda: predict(vertex, endpoint, "die"))
    assert (error["code"], error["status"]) == (503, "UNAVAILABLE")

    def answers() -> bool:
        try:
            return len(predict(vertex, endpoint, "x")["predictions"]) == 1
        except HttpError as error:
            if error.resp.status != 503:
                raise
            return False

    wait_until(answers, what="the server's return")


def test_what_the_server_refuses_comes_through(vertex: Any, endpoint: str) -> None:
    """The model server's 400 reaches the caller with its text; an answer without predictions is a 500."""
    assert "traffic_split" in refused(lambda: predict(vertex, endpoint, "x"))["message"]
    deploy(vertex, endpoint, upload(vertex), {"0": 100})
    error = refused(lambda: predict(vertex, endpoint, "refuse"))
    assert error["code"] == 400
    assert "mother_age is missing" in error["message"]
    assert refused(lambda: predict(vertex, endpoint, "nonsense"))["code"] == 500
    error = refused(lambda: predict(vertex, endpoint, "x" * 1_500_001))
    assert (error["code"], "1500000" in error["message"]) == (400, True)


def test_raw_predict(vertex: Any, port: int, endpoint: str) -> None:
    """rawPredict passes any body and says in headers who answered."""
    deploy(vertex, endpoint, upload(vertex), {"0": 100}, id="5")
    address = f"http://127.0.0.1:{port}/v1/{endpoint}:rawPredict"
    answer = httpx.post(address, content=b"x not json x", headers={"content-type": "text/plain"})
    assert answer.status_code == 200
    assert len(answer.json()["predictions"]) == 2
    assert answer.headers["x-vertex-ai-deployed-model-id"] == "5"
    assert answer.headers["x-vertex-ai-endpoint-id"] == endpoint.rpartition("/")[2]


def test_a_model_that_never_gets_ready(vertex: Any, endpoint: str, cloud_logging: Any) -> None:
    """A container that ends again and again fails the deployment with its last lines, and leaves nothing behind."""
    model = upload(vertex, imageUri="r/fail")
    done = deploy(vertex, endpoint, model, {"0": 100})
    assert done["error"]["code"] == 9
    assert "Model server never became ready" in done["error"]["message"]
    assert "it broke at row 7" in done["error"]["message"]
    assert "deployedModels" not in vertex.endpoints().get(name=endpoint).execute()
    done = deploy(vertex, endpoint, upload(vertex, imageUri="r/nowhere"), {"0": 100})
    assert "images.toml" in done["error"]["message"]
    done = deploy(vertex, endpoint, upload(vertex, imageUri="r/sleep", deploymentTimeout="0.3s"), {"0": 100})
    assert "within 0.3 s" in done["error"]["message"]


def test_server_logs(vertex: Any, endpoint: str, cloud_logging: Any) -> None:
    """What a model server prints is in Cloud Logging under its endpoint."""
    deploy(vertex, endpoint, upload(vertex), {"0": 100}, id="3")
    short = endpoint.rpartition("/")[2]
    filter_text = f'resource.type="aiplatform.googleapis.com/Endpoint" AND resource.labels.endpoint_id="{short}"'
    body = {"resourceNames": ["projects/baton-local"], "filter": filter_text}
    found = cloud_logging.list(body=body).execute()["entries"]
    assert found[0]["textPayload"] == "serving"
    assert found[0]["labels"]["deployed_model_id"] == "3"


@pytest.mark.parametrize(
    ("deployed", "split", "fragment"),
    [
        ({"dedicatedResources": None}, {}, "dedicated_resources"),
        ({"dedicatedResources": {"machineSpec": {}, "minReplicaCount": 1}}, {}, "machine_type"),
        ({"dedicatedResources": {**RESOURCES, "minReplicaCount": 0}}, {}, "min_replica_count"),
        ({"id": "abc"}, {}, "deployed_model.id 'abc'"),
        ({"id": "12345678901"}, {}, "1 to 10 digits"),
        ({}, {"0": 50}, "sum to 100"),
        ({}, {"0": 50, "77": 50}, "[77] do not exist"),
        ({"model": f"{PARENT}/models/none"}, {}, "was not found"),
    ],
)
def test_deploy_refusals(
    vertex: Any, endpoint: str, deployed: dict[str, Any], split: dict[str, int], fragment: str
) -> None:
    """A deployment Vertex AI would refuse is refused at once, naming the field."""
    model = upload(vertex)
    body = {"deployedModel": {"model": model, "dedicatedResources": RESOURCES, **deployed}, "trafficSplit": split}
    request = vertex.endpoints().deployModel(endpoint=endpoint, body=body)
    assert fragment in refused(request.execute)["message"]


@pytest.mark.parametrize("endpoint_id", ["Abc", "a-", "0123", "1234567890", "a" * 64, "a_b"])
def test_endpoint_ids(vertex: Any, endpoint_id: str) -> None:
    """A chosen id that could not be an endpoint's is refused."""
    request = vertex.endpoints().create(parent=PARENT, endpointId=endpoint_id, body={"displayName": "x"})
    assert "endpoint_id" in refused(request.execute)["message"]


def test_operations_can_be_listed_waited_for_and_cancelled(vertex: Any, endpoint: str) -> None:
    """An operation is listed, `wait` returns when it is done or at its time-out, and cancel ends it."""
    model = upload(vertex, imageUri="r/sleep")
    body = {"deployedModel": {"model": model, "dedicatedResources": RESOURCES}}
    operation = vertex.endpoints().deployModel(endpoint=endpoint, body=body).execute()
    operations = vertex.endpoints().operations()
    assert "done" not in operations.wait(name=operation["name"], timeout="0.1s").execute()
    named = [o["name"] for o in operations.list(name=endpoint).execute()["operations"]]
    assert named[0] == operation["name"]
    assert operations.cancel(name=operation["name"]).execute() == {}
    done = operations.wait(name=operation["name"]).execute()
    assert done["error"]["code"] == 1
    assert "deployedModels" not in vertex.endpoints().get(name=endpoint).execute()
    assert operations.delete(name=operation["name"]).execute() == {}
    assert refused(lambda: operations.get(name=operation["name"]).execute())["code"] == 404
