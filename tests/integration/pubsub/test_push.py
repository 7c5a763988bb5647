"""Push subscriptions against a real HTTP endpoint."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from localcloud.pubsub import wire
from localcloud.pubsub.clock import ManualClock
from tests.integration.pubsub.conftest import SUBSCRIPTION, Running
from tests.support.waiting import wait_until


class Request(NamedTuple):
    headers: dict[str, str]
    body: bytes


class Endpoint:
    """Takes posts and answers the statuses it was told, then 204."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.statuses: list[int] = []
        outer = self

        class Server(ThreadingHTTPServer):
            request_queue_size = 128

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                outer.requests.append(Request({key.lower(): value for key, value in self.headers.items()}, body))
                self.send_response_only(outer.statuses.pop(0) if outer.statuses else 204)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/events"

    def bodies(self) -> list[Any]:
        return [json.loads(request.body) for request in self.requests]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint()
    yield made
    made.close()


def _delivered(running: Running, count: int) -> bool:
    return running.server.broker.registry.subscription(SUBSCRIPTION).counts["acked"] == count


def test_message_is_pushed_wrapped(running: Running, endpoint: Endpoint) -> None:
    """The endpoint gets the documented JSON; a success status is the ack."""
    running.create(push_config={"push_endpoint": endpoint.url})
    [message_id] = running.publish(b"\x00\xff", attributes={"a": "b"}, ordering_key="k")
    wait_until(lambda: _delivered(running, 1), what="the push acked")
    [body] = endpoint.bodies()
    published = body["message"]["publishTime"]
    assert body == {
        "subscription": SUBSCRIPTION,
        "message": {
            "attributes": {"a": "b"},
            "data": base64.b64encode(b"\x00\xff").decode(),
            "messageId": message_id,
            "message_id": message_id,
            "orderingKey": "k",
            "publishTime": published,
            "publish_time": published,
        },
    }
    assert endpoint.requests[0].headers["content-type"] == "application/json"


def test_failure_status_brings_the_message_again(running: Running, endpoint: Endpoint) -> None:
    """Anything but a success is a nack: the message is posted again until it succeeds, with its attempt counted."""
    endpoint.statuses = [500, 404, 301]
    running.call("Publisher/CreateTopic", wire.Topic(name="projects/p/topics/dead"))
    running.create(
        push_config={"push_endpoint": endpoint.url},
        dead_letter_policy={"dead_letter_topic": "projects/p/topics/dead", "max_delivery_attempts": 9},
    )
    running.publish(b"x")
    wait_until(lambda: _delivered(running, 1), what="the push acked")
    assert [body["deliveryAttempt"] for body in endpoint.bodies()] == [1, 2, 3, 4]


def test_unwrapped_payload_carries_its_metadata_in_headers(running: Running, endpoint: Endpoint) -> None:
    """Without a wrapper the body is the data; attributes that cannot be headers are left out."""
    running.create(push_config={"push_endpoint": endpoint.url, "no_wrapper": {"write_metadata": True}})
    [message_id] = running.publish(b"raw", attributes={"stage": "train", "bad key": "x", "crlf": "a\r\nx-evil: 1"})
    wait_until(lambda: _delivered(running, 1), what="the push acked")
    [request] = endpoint.requests
    assert request.body == b"raw"
    assert request.headers["stage"] == "train"
    assert request.headers["x-goog-pubsub-message-id"] == message_id
    assert request.headers["x-goog-pubsub-subscription-name"] == SUBSCRIPTION
    assert not {"bad key", "crlf", "x-evil"} & set(request.headers)


def test_token_says_who_pushes(running: Running, endpoint: Endpoint) -> None:
    """With oidc_token a readable, unsigned token is sent."""
    token = {"service_account_email": "a@b.c", "audience": "them"}
    running.create(push_config={"push_endpoint": endpoint.url, "oidc_token": token})
    running.publish(b"x")
    wait_until(lambda: endpoint.requests, what="the push")
    header, claims, signature = endpoint.requests[0].headers["authorization"].removeprefix("Bearer ").split(".")
    assert json.loads(base64.urlsafe_b64decode(header + "=="))["alg"] == "none"
    assert json.loads(base64.urlsafe_b64decode(claims + "=="))["aud"] == "them"
    assert signature == ""


def test_keys_are_pushed_in_order(running: Running, endpoint: Endpoint) -> None:
    """With ordering, a failed push holds its key's followers back."""
    endpoint.statuses = [204, 503]
    running.create(push_config={"push_endpoint": endpoint.url}, enable_message_ordering=True)
    running.publish(*[str(index).encode() for index in range(20)], ordering_key="k")
    wait_until(lambda: _delivered(running, 20), what="20 pushes acked")
    sent = [base64.b64decode(body["message"]["data"]).decode() for body in endpoint.bodies()]
    assert sent == ["0", "1", *(str(index) for index in range(1, 20))]


def test_backlog_is_pushed_many_at_once(running: Running, endpoint: Endpoint) -> None:
    """A healthy endpoint gets a backlog quickly, and each message once."""
    running.create(push_config={"push_endpoint": endpoint.url})
    running.publish(*[str(index).encode() for index in range(300)])
    wait_until(lambda: _delivered(running, 300), what="300 pushes acked")
    assert len({body["message"]["messageId"] for body in endpoint.bodies()}) == 300


def test_cleared_endpoint_makes_the_subscription_pull(running: Running, endpoint: Endpoint) -> None:
    """ModifyPushConfig with an empty configuration stops pushing; giving one starts it."""
    running.create()
    modify = wire.message_class("ModifyPushConfigRequest")
    running.call(
        "Subscriber/ModifyPushConfig", modify(subscription=SUBSCRIPTION, push_config={"push_endpoint": endpoint.url})
    )
    running.publish(b"pushed")
    wait_until(lambda: _delivered(running, 1), what="the push acked")
    running.call("Subscriber/ModifyPushConfig", modify(subscription=SUBSCRIPTION))
    running.publish(b"pulled")
    assert [item.message.data for item in running.pull()] == [b"pulled"]


def test_dead_endpoint_backs_off(tmp_path: Path) -> None:
    """While nothing listens, attempts grow rarer on the clock instead of spinning."""
    clock = ManualClock()
    running = Running(tmp_path, clock=clock)
    try:
        running.create(push_config={"push_endpoint": "http://127.0.0.1:9/closed"})
        running.publish(b"x")
        counts = running.server.broker.registry.subscription(SUBSCRIPTION).counts
        wait_until(lambda: counts["nacked"] == 1, what="the first failure")

        async def advance(seconds: float) -> None:
            clock.advance(seconds)

        running.run(advance(0.05))
        assert counts["nacked"] == 1
        running.run(advance(0.06))
        wait_until(lambda: counts["nacked"] == 2, what="the second failure")
        running.run(advance(0.11))
        assert counts["nacked"] == 2
    finally:
        running.stop()
