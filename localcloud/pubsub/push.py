"""Push subscriptions: each message is an HTTP POST, and the status code is its ack or nack.

How many requests run at once follows the endpoint: one at first, doubled by each success, halved by each failure. After a
failure the whole loop waits, from 0.1 s doubling to 60 s; a retry policy holds single messages back besides. The service
signs a token for `oidc_token`; ours has no key to sign with, so its token is readable but unsigned (`alg: none`).
Source: cloud.google.com/pubsub/docs/push, cloud.google.com/pubsub/docs/payload-unwrapping.
"""

import asyncio
import base64
import json
import logging
from typing import Any

from localcloud.pubsub import wire
from localcloud.pubsub.broker import Broker
from localcloud.pubsub.clock import pause
from localcloud.pubsub.consumer import Consumer
from localcloud.pubsub.errors import PubSubError
from localcloud.pubsub.subscription import Delivery, Subscription

_LOG = logging.getLogger(__name__)
_SUCCESS = frozenset((102, 200, 201, 202, 204))
_MAX_WINDOW = 100
_MAX_BACKOFF_S = 60.0
_TOKEN_LIFETIME_S = 3600


class PushLoop:
    """Pushes one subscription's messages until cancelled.

    Args:
        client: an `httpx.AsyncClient`.
    """

    def __init__(self, broker: Broker, subscription: Subscription, client: Any) -> None:
        self._broker = broker
        self._subscription = subscription
        self._client = client
        self._consumer = Consumer(max_messages=1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_of_key: dict[str, asyncio.Task[None]] = {}
        self._failures = 0
        self._waited_until_s = 0.0

    async def run(self) -> None:
        """Push until the subscription ends or stops pushing."""
        subscription, consumer = self._subscription, self._consumer
        subscription.join(consumer)
        try:
            while consumer.error is None:
                wait_s = self._waited_until_s - self._broker.clock.monotonic()
                if wait_s > 0:
                    await pause(self._broker.clock, wait_s)
                deliveries = subscription.take(consumer)
                if not deliveries:
                    await consumer.wait()
                for delivery in deliveries:
                    self._start(delivery)
        finally:
            for task in self._tasks:
                task.cancel()
            subscription.leave(consumer, [])

    def _start(self, delivery: Delivery) -> None:
        message = wire.PubsubMessage.FromString(delivery.body)
        key = message.ordering_key if self._subscription.settings.is_ordered else ""
        before = self._last_of_key.get(key) if key else None
        task = asyncio.get_running_loop().create_task(self._push(delivery, message, before))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if key:
            self._last_of_key[key] = task
            task.add_done_callback(lambda done: self._forget_key(key, done))

    def _forget_key(self, key: str, task: asyncio.Task[None]) -> None:
        if self._last_of_key.get(key) is task:
            del self._last_of_key[key]

    async def _push(self, delivery: Delivery, message: Any, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait((before,))
        if not self._subscription.holds(delivery.ack_id):
            return  # an earlier message of its key failed, so this one comes again
        status, reason = await self._post(delivery, message)
        try:
            if status in _SUCCESS:
                self._subscription.ack([delivery.ack_id])
                self._failures = 0
                self._consumer.max_messages = min(_MAX_WINDOW, self._consumer.max_messages * 2)
            else:
                self._back_off()
                self._subscription.modify([delivery.ack_id], [0])
                self._log_failure(message, status, reason)
        except PubSubError:
            _LOG.exception("push: an ack was refused", extra={"action": "push_ack_refused"})
        self._consumer.ring()

    def _back_off(self) -> None:
        """Wait longer. Requests that ran side by side and fail together count as one failure."""
        now_s = self._broker.clock.monotonic()
        if now_s < self._waited_until_s:
            return
        self._consumer.max_messages = max(1, self._consumer.max_messages // 2)
        self._waited_until_s = now_s + min(_MAX_BACKOFF_S, 0.1 * 2.0 ** min(self._failures, 16))
        self._failures += 1

    async def _post(self, delivery: Delivery, message: Any) -> tuple[int, str]:
        """Status and reason of the answer; the status is 0 if there was none."""
        import httpx

        config = self._subscription.config.push_config
        body, headers = _request(self._subscription, delivery, message, int(self._broker.clock.time()))
        try:
            answer = await self._client.post(
                config.push_endpoint, content=body, headers=headers, timeout=self._subscription.settings.ack_deadline_s
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return 0, repr(error)
        return int(answer.status_code), str(answer.reason_phrase)

    def _log_failure(self, message: Any, status: int, reason: str) -> None:
        _LOG.warning(
            "push failed, the message will come again",
            extra={
                "action": "push_failed",
                "subscription": self._subscription.name,
                "endpoint": self._subscription.config.push_config.push_endpoint,
                "message_id": message.message_id,
                "status": status,
                "reason": reason,
            },
        )


def _request(subscription: Subscription, delivery: Delivery, message: Any, now_s: int) -> tuple[bytes, dict[str, str]]:
    """Body and headers, wrapped or not."""
    config = subscription.config.push_config
    headers = {"User-Agent": "CloudPubSub-Google"}
    if config.HasField("oidc_token"):
        headers["Authorization"] = f"Bearer {_unsigned_token(config, now_s)}"
    if config.WhichOneof("wrapper") == "no_wrapper":
        if config.no_wrapper.write_metadata:
            headers |= _metadata_headers(subscription, delivery, message)
        return bytes(message.data), headers
    headers["Content-Type"] = "application/json"
    published = message.publish_time.ToJsonString()
    wrapped: dict[str, Any] = {
        "attributes": dict(message.attributes),
        "data": base64.b64encode(message.data).decode("ascii"),
        "messageId": message.message_id,
        "message_id": message.message_id,
        "publishTime": published,
        "publish_time": published,
    }
    if message.ordering_key:
        wrapped["orderingKey"] = message.ordering_key
    envelope: dict[str, Any] = {"message": wrapped, "subscription": subscription.name}
    if delivery.attempt:
        envelope["deliveryAttempt"] = delivery.attempt
    return json.dumps(envelope).encode(), headers


def _metadata_headers(subscription: Subscription, delivery: Delivery, message: Any) -> dict[str, str]:
    headers = {key: value for key, value in message.attributes.items() if _is_header(key, value)}
    headers["x-goog-pubsub-subscription-name"] = subscription.name
    headers["x-goog-pubsub-message-id"] = message.message_id
    headers["x-goog-pubsub-publish-time"] = message.publish_time.ToJsonString()
    if message.ordering_key and _is_header("k", message.ordering_key):
        headers["x-goog-pubsub-ordering-key"] = message.ordering_key
    if delivery.attempt:
        headers["x-goog-pubsub-delivery-attempt"] = str(delivery.attempt)
    return headers


def _is_header(key: str, value: str) -> bool:
    """Whether an attribute can stand in a header: a line break in one would forge others."""
    is_token = bool(key) and all(letter.isalnum() or letter in "!#$%&'*+-.^_`|~" for letter in key) and key.isascii()
    return is_token and value.isprintable() and value.isascii()


def _unsigned_token(config: Any, now_s: int) -> str:
    def part(content: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).decode("ascii").rstrip("=")

    token = config.oidc_token
    claims = {
        "aud": token.audience or config.push_endpoint,
        "email": token.service_account_email,
        "email_verified": True,
        "iss": "https://localcloud.invalid",
        "iat": now_s,
        "exp": now_s + _TOKEN_LIFETIME_S,
    }
    return f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(claims)}."
