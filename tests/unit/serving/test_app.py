"""The HTTP application answers the contract, and every error in one shape."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import numpy as np
import pytest

from serving.app import Service, build_app, readable_floats
from serving.settings import Settings
from tests.support.serving_stand_in import INSTANCE, WeeksModel

SETTINGS = Settings(
    storage_uri="unused",
    port=0,
    health_route="/health",
    predict_route="/v1/endpoints/1/deployedModels/2:predict",
    host="127.0.0.1",
    max_body_bytes=100_000,
)


class FailingModel(WeeksModel):
    def predict(self, columns: Any) -> Any:
        raise MemoryError("no room")


def ask(
    method: str,
    path: str,
    content: bytes | Callable[[], AsyncIterator[bytes]] = b"",
    model: WeeksModel | None = None,
    *,
    is_loaded: bool = True,
) -> httpx.Response:
    """One request to the application, in memory."""
    service = Service(SETTINGS)
    if is_loaded:
        service.model = model or WeeksModel()  # type: ignore[assignment]  # the same two members as LiteRtModel
    # Starlette raises an unexpected error again after answering 500, for the server's log.
    transport = httpx.ASGITransport(build_app(SETTINGS, service), raise_app_exceptions=False)

    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, content=content if isinstance(content, bytes) else content())

    try:
        return asyncio.run(send())
    finally:
        service.close()


def predict(body: object, **others: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ask("POST", SETTINGS.predict_route, content, **others)


def test_predictions_come_in_the_order_of_the_instances() -> None:
    """{"instances": [...]} gives {"predictions": [...]}, plain numbers in the label's unit."""
    weeks = [37, 40, 25]
    answer = predict({"instances": [INSTANCE | {"gestation_weeks": week} for week in weeks]})
    assert answer.status_code == 200
    assert answer.json() == {"predictions": [7.4, 8.0, 5.0]}


def test_a_large_batch_is_answered_as_a_small_one() -> None:
    """What is answered in a thread does not differ."""
    answer = predict({"instances": [INSTANCE] * 600})
    assert answer.json() == {"predictions": [7.4] * 600}


@pytest.mark.parametrize(
    "body", [{"instances": []}, {"instances": [], "parameters": None}, {"instances": [], "parameters": {}}]
)
def test_no_instances_give_no_predictions(body: dict[str, Any]) -> None:
    """An empty batch is a batch; empty parameters are none."""
    assert predict(body).json() == {"predictions": []}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", ["not JSON"]),
        (b'{"instances": [', ["not JSON", "line 1"]),
        (b"\xff\xfe", ["not JSON"]),
        (b"[" * 90_000, ["not JSON"]),
        (b"[]", ["not an object"]),
        (b"{}", ["instances is missing"]),
        (b'{"instances": {}}', ["not a list"]),
        (b'{"instances": [], "signature": 1}', ["signature"]),
        (b'{"instances": [], "parameters": {"k": 1}}', ["parameters", "takes none"]),
        (json.dumps({"instances": [INSTANCE | {"mother_age": float("nan")}]}).encode(), ["instances[0].mother_age"]),
        (b'{"instances": [{"\\ud800": 1}]}', ["instances[0].gestation_weeks"]),
    ],
)
def test_a_bad_request_gets_400_with_the_reason(body: bytes, words: list[str]) -> None:
    """Malformed or unfit, the answer is JSON in Google's error shape and says what to change."""
    answer = predict(body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    assert all(word in error["message"] for word in words)


def test_details_name_index_field_value_and_mend() -> None:
    """A program can read what a person reads in the message."""
    (detail,) = predict({"instances": [INSTANCE, INSTANCE | {"plurality": "Dozens"}]}).json()["error"]["details"]
    assert detail == {
        "instance": 1,
        "field": "plurality",
        "value": "'Dozens'",
        "problem": "an unknown category",
        "mend": 'give one of: "Multiple(2+)", "Single(1)"',
    }


def test_a_body_over_the_limit_gets_413() -> None:
    """By its declared length, and by its bytes where none is declared."""

    async def undeclared() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b" " * 50_000

    for content in (b" " * 100_001, undeclared):
        answer = ask("POST", SETTINGS.predict_route, content)
        assert answer.status_code == 413
        assert "100000" in answer.json()["error"]["message"]


def test_until_the_model_is_loaded_the_answer_is_503() -> None:
    """Health and predict both, so that no traffic is sent and none is answered wrongly."""
    assert ask("GET", "/health", is_loaded=False).status_code == 503
    answer = predict({"instances": [INSTANCE]}, is_loaded=False)
    assert (answer.status_code, answer.json()["error"]["status"]) == (503, "UNAVAILABLE")


def test_health_says_what_is_served() -> None:
    """200, with the model's name and what its numbers mean."""
    assert ask("GET", "/health").json() == {
        "status": "ok",
        "model": "babyweight",
        "predicts": "weight_pounds",
        "unit": "lb",
    }


@pytest.mark.parametrize(("method", "path", "code"), [("GET", "/", 404), ("GET", SETTINGS.predict_route, 405)])
def test_a_wrong_route_names_the_right_ones(method: str, path: str, code: int) -> None:
    """The error shape is the same, and the routes are listed."""
    answer = ask(method, path)
    assert answer.status_code == code
    assert SETTINGS.predict_route in answer.json()["error"]["message"]


def test_an_unexpected_failure_gets_500_in_the_same_shape() -> None:
    """The cause goes to the log, not to the client."""
    answer = predict({"instances": [INSTANCE]}, model=FailingModel())
    assert answer.status_code == 500
    assert answer.json()["error"]["status"] == "INTERNAL"
    assert "no room" not in answer.text


def test_floats_are_readable_and_exact() -> None:
    """Each number is the shortest that reads back as the same float32."""
    values = np.array([7.253788, 0.1, 1e-20, 123456.79], np.float32)
    assert readable_floats(values)[1] == 0.1
    np.testing.assert_array_equal(np.array(readable_floats(values), np.float32), values)
