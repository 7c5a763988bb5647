"""`google.pubsub.v1.Publisher`: topics and publishing."""

from typing import Any

from localcloud.pubsub import names, pages, validation, wire
from localcloud.pubsub.broker import Broker
from localcloud.pubsub.errors import AlreadyExists, FailedPrecondition, Unavailable, Unimplemented
from localcloud.pubsub.masks import merge
from localcloud.pubsub.rpc import Methods
from localcloud.pubsub.schemas import Schemas
from localcloud.pubsub.snapshots import Snapshots

_PUBLISH_RESPONSE = wire.message_class("PublishResponse")
_LIST_SNAPSHOTS = wire.message_class("ListTopicSnapshotsResponse")
_DETACHED = wire.message_class("DetachSubscriptionResponse")
_LIST_TOPICS = wire.message_class("ListTopicsResponse")
_LIST_SUBSCRIPTIONS = wire.message_class("ListTopicSubscriptionsResponse")
_UPDATABLE = frozenset(
    (
        "labels",
        "message_storage_policy",
        "message_retention_duration",
        "schema_settings",
        "kms_key_name",
        "tags",
        "ingestion_data_source_settings",
        "message_transforms",
    )
)
_NOT_OFFERED = ("ingestion_data_source_settings", "message_transforms")


class PublisherService:
    """The Publisher's methods over one broker."""

    def __init__(self, broker: Broker, snapshots: Snapshots, schemas: Schemas) -> None:
        self._broker = broker
        self._schemas = schemas
        self._snapshots = snapshots

    def register(self, methods: Methods) -> None:
        """Add the methods to the Publisher service."""
        methods.unary("CreateTopic", "Topic", self.create_topic)
        methods.unary("UpdateTopic", "UpdateTopicRequest", self.update_topic)
        methods.unary("Publish", "PublishRequest", self.publish)
        methods.unary("GetTopic", "GetTopicRequest", self.get_topic)
        methods.unary("ListTopics", "ListTopicsRequest", self.list_topics)
        methods.unary("ListTopicSubscriptions", "ListTopicSubscriptionsRequest", self.list_topic_subscriptions)
        methods.unary("ListTopicSnapshots", "ListTopicSnapshotsRequest", self.list_topic_snapshots)
        methods.unary("DeleteTopic", "DeleteTopicRequest", self.delete_topic)
        methods.unary("DetachSubscription", "DetachSubscriptionRequest", self.detach_subscription)

    async def create_topic(self, request: Any, context: Any) -> Any:
        """Create a topic."""
        self._check(request)
        if request.name in self._broker.registry.topics:
            raise AlreadyExists(
                f"topic {request.name} exists already; use it, or choose another name "
                f"(resource={request.name.rpartition('/')[2]})."
            )
        config = wire.Topic()
        config.CopyFrom(request)
        config.ClearField("state")
        config.ClearField("satisfies_pzs")
        topic = self._broker.registry.add_topic(self._broker.registry.take_number(), config)
        self._broker.registry.save_topic(topic)
        await self._broker.store.settle()
        return config

    def _check(self, config: Any) -> None:
        validation.topic(config)
        if config.HasField("schema_settings"):
            self._schemas.check_settings(config)
        for field in _NOT_OFFERED:
            if _is_set(config, field):
                raise Unimplemented(f"{config.name}: {field} is not offered by this local Pub/Sub; leave it out.")

    async def update_topic(self, request: Any, context: Any) -> Any:
        """Change the fields named by the mask."""
        topic = self._broker.registry.topic(names.check(request.topic.name, "topics", "topic.name"))
        changed = merge(topic.config, request.topic, request.update_mask.paths, _UPDATABLE)
        self._check(changed)
        topic.configure(changed)
        self._broker.registry.save_topic(topic)
        await self._broker.store.settle()
        return changed

    async def publish(self, request: Any, context: Any) -> Any:
        """Keep messages; answered once they are on disk."""
        topic = self._broker.registry.topics.get(request.topic)
        if topic is None:
            topic = self._broker.registry.topic(names.check(request.topic, "topics", "topic"))
        validation.publish_request(request)
        if topic.has_schema:
            await self._schemas.admit(topic.config, request.messages)
            topic = self._broker.registry.topic(topic.name)  # it may have gone meanwhile
        ids = self._broker.append(topic, request.messages)
        await self._broker.store.settle()
        if self._broker.unkind is not None and self._broker.unkind.loses_answer():
            raise Unavailable("the messages are kept, but the answer got lost (unkind mode): publish again.")
        return _PUBLISH_RESPONSE(message_ids=ids)

    async def get_topic(self, request: Any, context: Any) -> Any:
        """One topic's configuration."""
        return self._broker.registry.topic(names.check(request.topic, "topics", "topic")).config

    async def list_topics(self, request: Any, context: Any) -> Any:
        """A project's topics, by name."""
        prefix = names.check_project(request.project) + "/topics/"
        broker = self._broker
        found, token = pages.page(
            request.page_size,
            request.page_token,
            lambda after, count: broker.registry.names_after(broker.registry.topic_names, prefix, after, count),
        )
        topics, token = pages.fitted(found, token, lambda name: broker.registry.topics[name].config)
        return _LIST_TOPICS(topics=topics, next_page_token=token)

    async def list_topic_subscriptions(self, request: Any, context: Any) -> Any:
        """Names of the subscriptions attached to a topic."""
        topic = self._broker.registry.topic(names.check(request.topic, "topics", "topic"))
        found, token = pages.page(request.page_size, request.page_token, pages.of_list(list(topic.subscriptions)))
        return _LIST_SUBSCRIPTIONS(subscriptions=found, next_page_token=token)

    async def list_topic_snapshots(self, request: Any, context: Any) -> Any:
        """Names of a topic's snapshots."""
        topic = self._broker.registry.topic(names.check(request.topic, "topics", "topic"))
        found, token = pages.page(
            request.page_size, request.page_token, pages.of_list(self._snapshots.names_of_topic(topic))
        )
        return _LIST_SNAPSHOTS(snapshots=found, next_page_token=token)

    async def detach_subscription(self, request: Any, context: Any) -> Any:
        """Cut a subscription off its topic: its backlog goes, and it can only be deleted."""
        registry = self._broker.registry
        subscription = registry.subscription(names.check(request.subscription, "subscriptions", "subscription"))
        subscription.config.detached = True
        registry.save_subscription(subscription)
        topic = registry.topic_of(subscription)
        topic.subscriptions.pop(subscription.name, None)
        subscription.close(FailedPrecondition(f"{subscription.name} has been detached from its topic."))
        self._broker.reposition(subscription, self._broker.position)
        self._broker.mark_for_trim(topic)
        await self._broker.store.settle()
        return _DETACHED()

    async def delete_topic(self, request: Any, context: Any) -> Any:
        """Delete a topic; its subscriptions keep their backlog and read `_deleted-topic_` from now on."""
        topic = self._broker.registry.topic(names.check(request.topic, "topics", "topic"))
        self._broker.registry.remove_topic(topic)
        self._broker.registry.save_topic(topic)
        for subscription in topic.subscriptions.values():
            subscription.config.topic = names.DELETED_TOPIC
            self._broker.registry.save_subscription(subscription)
        self._broker.mark_for_trim(topic)
        await self._broker.store.settle()
        return wire.Empty()


def _is_set(config: Any, field: str) -> bool:
    value = getattr(config, field)
    return bool(value) if hasattr(value, "__len__") else bool(config.HasField(field))
