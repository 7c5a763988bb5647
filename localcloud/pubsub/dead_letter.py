"""What a message carries to its dead-letter topic."""

from typing import Any


def with_origin(message: Any, subscription: str, topic: str, attempts: int) -> Any:
    """The PubsubMessage with the service's four attributes, which say where it comes from and how often it was tried.

    Source: cloud.google.com/pubsub/docs/handling-failures, "Track delivery attempts"; names as in Google's emulator.
    """
    published = message.publish_time.ToDatetime()
    _, project, _, short_name = subscription.split("/")
    message.attributes["CloudPubSubDeadLetterSourceDeliveryCount"] = str(attempts)
    message.attributes["CloudPubSubDeadLetterSourceSubscription"] = short_name
    message.attributes["CloudPubSubDeadLetterSourceSubscriptionProject"] = project
    message.attributes["CloudPubSubDeadLetterSourceTopicPublishTime"] = (
        published.isoformat(timespec="milliseconds") + "+00:00"
    )
    return message
