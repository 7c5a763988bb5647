"""`google.pubsub.v1.Subscriber`: subscriptions, pulling and acknowledging."""

import uuid
from typing import Any

from localcloud.pubsub import large, lease_book, names, pages, validation, wire
from localcloud.pubsub.ack_ids import seq_of
from localcloud.pubsub.broker import Broker
from localcloud.pubsub.consumer import Consumer
from localcloud.pubsub.errors import AckFailure, AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from localcloud.pubsub.exports import ExportState
from localcloud.pubsub.filters import compile_filter
from localcloud.pubsub.masks import merge
from localcloud.pubsub.outbound import Outbound
from localcloud.pubsub.rpc import Methods
from localcloud.pubsub.settings import DEFAULT_ACK_DEADLINE_S, DEFAULT_EXPIRATION_S, DEFAULT_RETENTION_S
from localcloud.pubsub.streaming import StreamingPull
from localcloud.pubsub.subscription import Delivery, Subscription
from localcloud.pubsub.transport import Call

_LIST_SUBSCRIPTIONS = wire.message_class("ListSubscriptionsResponse")
_UPDATABLE = frozenset(
    (
        "push_config",
        "bigquery_config",
        "cloud_storage_config",
        "ack_deadline_seconds",
        "retain_acked_messages",
        "labels",
        "message_retention_duration",
        "expiration_policy",
        "dead_letter_policy",
        "retry_policy",
        "enable_exactly_once_delivery",
        "tags",
    )
)
_DELIVERY_FIELDS = ("push_config", "bigquery_config", "cloud_storage_config")
_INSERT = "INSERT INTO subscriptions VALUES (?, ?, ?, ?, ?, ?, ?)"
_ACTIVE, _RESOURCE_ERROR = 1, 2
_STORAGE_SCHEMA_MISMATCH = 5  # CloudStorageConfig.State counts otherwise than BigQueryConfig.State
_PULL_BYTES = 3 << 20
_PULL_WAIT_S = 90.0


class SubscriberService:
    """The Subscriber's methods over one broker.

    Args:
        min_ack_deadline_s: the service's floor is 10 s; tests may lower it.
    """

    def __init__(self, broker: Broker, outbound: Outbound, min_ack_deadline_s: int = 10) -> None:
        self._broker = broker
        self._outbound = outbound
        self._min_ack_deadline_s = min_ack_deadline_s

    def register(self, methods: Methods) -> None:
        """Add the methods to the Subscriber service."""
        methods.unary("CreateSubscription", "Subscription", self.create_subscription)
        methods.unary("GetSubscription", "GetSubscriptionRequest", self.get_subscription)
        methods.unary("UpdateSubscription", "UpdateSubscriptionRequest", self.update_subscription)
        methods.unary("ListSubscriptions", "ListSubscriptionsRequest", self.list_subscriptions)
        methods.unary("DeleteSubscription", "DeleteSubscriptionRequest", self.delete_subscription)
        methods.unary("ModifyAckDeadline", "ModifyAckDeadlineRequest", self.modify_ack_deadline)
        methods.unary("ModifyPushConfig", "ModifyPushConfigRequest", self.modify_push_config)
        methods.unary("Acknowledge", "AcknowledgeRequest", self.acknowledge)
        methods.unary("Pull", "PullRequest", self.pull)
        methods.stream("StreamingPull", self.streaming_pull)

    # ---- administration ----

    async def create_subscription(self, request: Any, context: Any) -> Any:
        """Create a subscription, which begins with the next message published."""
        config = wire.Subscription()
        config.CopyFrom(request)
        names.check(config.topic, "topics", "topic")
        if not config.name:
            config.name = f"{names.project_of(config.topic)}/subscriptions/server-picked-{uuid.uuid4().hex}"
        self._check(config)
        self._check_dead_letter_topic(config)
        if config.name in self._broker.registry.subscriptions:
            raise AlreadyExists(
                f"subscription {config.name} exists already; use it, or choose another name "
                f"(resource={config.name.rpartition('/')[2]})."
            )
        topic = self._broker.registry.topic(config.topic)
        self._fill_defaults(config)
        number, position = self._broker.registry.take_number(), self._broker.position
        subscription = self._broker.registry.add_subscription(number, config, topic, start=position, cursor=position)
        subscription.active_us = self._broker.now_us()
        row = (
            number,
            config.name,
            topic.no,
            config.SerializeToString(),
            position,
            position,
            subscription.active_us,
        )
        self._broker.store.write(_INSERT, [row])
        await self._broker.store.settle()
        self._outbound.sync(subscription)
        return self._shown(subscription)

    def _check(self, config: Any) -> None:
        validation.subscription(config, self._min_ack_deadline_s)
        if config.filter:
            try:
                compile_filter(config.filter)
            except InvalidArgument as error:
                raise InvalidArgument(f"{config.name}: {error}") from None

    def _check_dead_letter_topic(self, config: Any) -> None:
        if config.HasField("dead_letter_policy"):
            self._broker.registry.topic(config.dead_letter_policy.dead_letter_topic, "dead_letter_topic")

    def _fill_defaults(self, config: Any) -> None:
        config.detached = False
        config.ClearField("state")
        if not config.ack_deadline_seconds:
            config.ack_deadline_seconds = DEFAULT_ACK_DEADLINE_S
        if not config.HasField("message_retention_duration"):
            config.message_retention_duration.seconds = DEFAULT_RETENTION_S
        if not config.HasField("expiration_policy"):
            config.expiration_policy.ttl.seconds = DEFAULT_EXPIRATION_S
        if config.HasField("dead_letter_policy") and not config.dead_letter_policy.max_delivery_attempts:
            config.dead_letter_policy.max_delivery_attempts = 5
        if config.HasField("retry_policy"):
            if not config.retry_policy.HasField("minimum_backoff"):
                config.retry_policy.minimum_backoff.seconds = 10
            if not config.retry_policy.HasField("maximum_backoff"):
                config.retry_policy.maximum_backoff.seconds = 600

    def _shown(self, subscription: Subscription) -> Any:
        config = wire.Subscription()
        config.CopyFrom(subscription.config)
        config.state = _ACTIVE if subscription.export_state == _ACTIVE else _RESOURCE_ERROR
        if config.bigquery_config.table:
            config.bigquery_config.state = subscription.export_state
        if config.cloud_storage_config.bucket:
            mismatch, shown = ExportState.SCHEMA_MISMATCH, subscription.export_state
            config.cloud_storage_config.state = _STORAGE_SCHEMA_MISMATCH if shown == mismatch else shown
        topic = self._broker.registry.topic_of(subscription)
        if topic.retention_s and not topic.is_deleted:
            config.topic_message_retention_duration.CopyFrom(topic.config.message_retention_duration)
        return config

    def _named(self, name: str) -> Subscription:
        subscription = self._broker.registry.subscriptions.get(name)
        if subscription is None:
            return self._broker.registry.subscription(names.check(name, "subscriptions", "subscription"))
        subscription.active_us = self._broker.now_us()
        return subscription

    async def get_subscription(self, request: Any, context: Any) -> Any:
        """One subscription's configuration."""
        return self._shown(self._named(request.subscription))

    async def update_subscription(self, request: Any, context: Any) -> Any:
        """Change the fields named by the mask."""
        subscription = self._named(request.subscription.name)
        before = subscription.config
        changed = merge(before, request.subscription, request.update_mask.paths, _UPDATABLE)
        self._fill_defaults(changed)
        self._check(changed)
        if changed.dead_letter_policy != before.dead_letter_policy:
            self._check_dead_letter_topic(changed)  # one that was deleted since does not hinder other changes
        subscription.configure(changed)
        if subscription.book is None:
            self._broker.store.write(lease_book.DELETE_ALL, [(subscription.no,)])
        self._broker.registry.save_subscription(subscription)
        await self._broker.store.settle()
        if any(getattr(changed, field) != getattr(before, field) for field in _DELIVERY_FIELDS):
            self._switch_delivery(subscription)
        return self._shown(subscription)

    def _switch_delivery(self, subscription: Subscription) -> None:
        """From pull to push or back: streams that would be refused from now on end."""
        subscription.export_state = _ACTIVE
        if subscription.settings.is_push or subscription.settings.is_export:
            for consumer in list(subscription.consumers):
                consumer.close(FailedPrecondition(f"{subscription.name} delivers by itself from now on."))
        self._outbound.sync(subscription)

    async def modify_push_config(self, request: Any, context: Any) -> Any:
        """Change where a subscription pushes; an empty configuration makes it pull."""
        update = wire.message_class("UpdateSubscriptionRequest")()
        update.subscription.name = names.check(request.subscription, "subscriptions", "subscription")
        update.subscription.push_config.CopyFrom(request.push_config)
        update.update_mask.paths.append("push_config")
        await self.update_subscription(update, context)
        return wire.Empty()

    async def list_subscriptions(self, request: Any, context: Any) -> Any:
        """A project's subscriptions, by name."""
        prefix = names.check_project(request.project) + "/subscriptions/"
        broker = self._broker
        found, token = pages.page(
            request.page_size,
            request.page_token,
            lambda after, count: broker.registry.names_after(broker.registry.subscription_names, prefix, after, count),
        )
        shown, token = pages.fitted(found, token, lambda name: self._shown(broker.registry.subscriptions[name]))
        return _LIST_SUBSCRIPTIONS(subscriptions=shown, next_page_token=token)

    async def delete_subscription(self, request: Any, context: Any) -> Any:
        """Delete a subscription and its backlog; its streams end with NOT_FOUND."""
        subscription = self._named(request.subscription)
        self._broker.delete_subscription(subscription, NotFound(f"subscription {subscription.name} has been deleted."))
        self._outbound.sync(subscription)
        await self._broker.store.settle()
        return wire.Empty()

    # ---- delivery ----

    async def modify_ack_deadline(self, request: Any, context: Any) -> Any:
        """Set new deadlines for leased messages; 0 is a nack."""
        subscription = self._named(request.subscription)
        validation.ack_request(request)
        validation.ack_deadline(request.ack_deadline_seconds, subscription.name)
        _check_attached(subscription)
        failures = subscription.modify(request.ack_ids, [request.ack_deadline_seconds] * len(request.ack_ids))
        if subscription.book is not None:
            await self._broker.store.settle()
        if failures:
            raise AckFailure(failures)
        return wire.Empty()

    async def acknowledge(self, request: Any, context: Any) -> Any:
        """Acknowledge messages; with exactly-once, answered when that is on disk."""
        subscription = self._named(request.subscription)
        validation.ack_request(request)
        _check_attached(subscription)
        failures = subscription.ack(request.ack_ids)
        if subscription.settings.is_exactly_once:
            await self._broker.store.settle()
            if failures:
                raise AckFailure(failures)
        return wire.Empty()

    async def pull(self, request: Any, context: Any) -> bytes:
        """Messages at once, or when the first arrives; empty shortly before the caller's deadline."""
        subscription = self._named(request.subscription)
        if request.max_messages < 1:
            raise InvalidArgument(f"max_messages={request.max_messages} on {subscription.name}; ask for at least 1.")
        if subscription.config.detached:
            raise FailedPrecondition(f"{subscription.name} is detached from its topic; create another subscription.")
        consumer = Consumer()
        unsent: list[Delivery] = []
        subscription.join(consumer)
        try:
            unsent = subscription.take(consumer, request.max_messages, _PULL_BYTES)
            deadline_s = self._broker.clock.monotonic() + _patience_s(context.time_remaining())
            while not unsent and not request.return_immediately:
                if consumer.error is not None:
                    raise consumer.error
                left_s = deadline_s - self._broker.clock.monotonic()
                if left_s <= 0 or not await consumer.wait(left_s):
                    break
                unsent = subscription.take(consumer, request.max_messages, _PULL_BYTES)
            if subscription.book is not None:
                await self._broker.store.settle()  # a lease is on disk before its message is sent
            response = wire.received_messages(unsent)
            if unsent:
                large.note(subscription.name, seq_of(unsent[0].ack_id), response)
            unsent = []
            return response
        finally:
            subscription.leave(consumer, unsent)

    async def streaming_pull(self, call: Call) -> None:
        """Messages as they come."""
        await StreamingPull(self._broker, call).run()


def _check_attached(subscription: Subscription) -> None:
    if subscription.config.detached:
        raise FailedPrecondition(
            f"{subscription.name} is detached from its topic; nothing of it is left to acknowledge."
        )


def _patience_s(remaining_s: float | None) -> float:
    """How long a Pull may wait, so that its caller gets an empty answer and not DEADLINE_EXCEEDED."""
    if remaining_s is None:
        return _PULL_WAIT_S
    return min(_PULL_WAIT_S, max(remaining_s - 1.0, remaining_s * 0.8))
