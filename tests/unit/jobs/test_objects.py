"""The jobs service's own reads of Cloud Storage: a store that is away is asked again, and is not a missing object."""

import asyncio

import pytest

from localcloud.discovery import Discovery
from localcloud.jobs import objects as module
from localcloud.jobs.objects import Objects, ObjectsError
from localcloud.jobs.templates import container_spec
from localcloud.jobs.upstream import Answer, Upstream, UpstreamError
from localcloud.rest import ApiError

_AWAY = [UpstreamError("the connection was closed"), Answer(503, {}, b""), Answer(429, {}, b""), TimeoutError()]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> list[Answer | Exception]:
    """What the store answers next; the last of it again and again."""
    answers: list[Answer | Exception] = []

    async def request(_self: Upstream, *_args: object, **_kwargs: object) -> Answer:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(Upstream, "request", request)
    monkeypatch.setattr(module, "_PAUSES_S", (0.0,) * 5)
    return answers


def test_a_store_that_restarts_is_asked_again(store: list[Answer | Exception]) -> None:
    """Cut connections, 5xx, 429 and time-outs pass."""
    store += [*_AWAY, Answer(200, {}, b"content")]
    assert asyncio.run(Objects("http://127.0.0.1:1").read("gs://bucket/a")) == b"content"


@pytest.mark.parametrize("answer", _AWAY, ids=["cut", "503", "429", "silent"])
def test_a_store_that_stays_away_says_nothing_about_the_request(
    store: list[Answer | Exception], answer: Answer | Exception
) -> None:
    """A launch whose template cannot be read now is answered UNAVAILABLE, and may be sent again."""
    store.append(answer)
    launch = {"containerSpecGcsPath": "gs://bucket/template.json"}
    with pytest.raises(ApiError, match="Unable to open template file") as told:
        asyncio.run(container_spec(launch, Objects("http://127.0.0.1:1"), Discovery.load("dataflow", "v1b3")))
    assert told.value.code == 503


@pytest.mark.parametrize(("code", "is_missing"), [(404, True), (403, False)])
def test_a_refusal_is_final_at_once(store: list[Answer | Exception], code: int, is_missing: bool) -> None:
    """What is not there, or not for us, is not asked for again."""
    store += [Answer(code, {}, b""), AssertionError("asked again")]
    with pytest.raises(ObjectsError) as told:
        asyncio.run(Objects("http://127.0.0.1:1").read("gs://bucket/a"))
    assert (told.value.is_missing, told.value.is_away) == (is_missing, False)
