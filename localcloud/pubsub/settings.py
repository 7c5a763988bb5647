"""A subscription's configuration, read once from its message into plain values."""

from dataclasses import dataclass
from typing import Any

from localcloud.pubsub import wire

DEFAULT_ACK_DEADLINE_S = 10
DEFAULT_RETENTION_S = 7 * 86_400
DEFAULT_EXPIRATION_S = 31 * 86_400
DEFAULT_DELIVERY_ATTEMPTS = 5
DEFAULT_MIN_BACKOFF_S = 10.0
DEFAULT_MAX_BACKOFF_S = 600.0


@dataclass(frozen=True, slots=True)
class RetryBackoff:
    """Exponential wait between deliveries of one message."""

    minimum_s: float
    maximum_s: float

    def delay_s(self, failures: int) -> float:
        """Seconds to wait after so many failed deliveries, from 1."""
        return min(self.maximum_s, self.minimum_s * 2.0 ** min(failures - 1, 32))


@dataclass(frozen=True, slots=True)
class SubscriptionSettings:
    """What the delivery machine needs to know. Durations are in seconds; `filter` is the expression, empty for none."""

    ack_deadline_s: int
    is_ordered: bool
    is_exactly_once: bool
    retry: RetryBackoff | None
    dead_letter_topic: str
    max_delivery_attempts: int
    retention_s: float
    retains_acked: bool
    expiration_s: float | None
    filter: str
    is_push: bool
    is_export: bool

    @classmethod
    def of(cls, config: Any) -> "SubscriptionSettings":
        """The settings of a checked Subscription message, defaults filled in."""
        policy = config.dead_letter_policy
        return cls(
            ack_deadline_s=config.ack_deadline_seconds or DEFAULT_ACK_DEADLINE_S,
            is_ordered=config.enable_message_ordering,
            is_exactly_once=config.enable_exactly_once_delivery,
            retry=_retry(config),
            dead_letter_topic=policy.dead_letter_topic if config.HasField("dead_letter_policy") else "",
            max_delivery_attempts=policy.max_delivery_attempts or DEFAULT_DELIVERY_ATTEMPTS,
            retention_s=wire.to_s(config.message_retention_duration) or float(DEFAULT_RETENTION_S),
            retains_acked=config.retain_acked_messages,
            expiration_s=_expiration_s(config),
            filter=config.filter,
            is_push=bool(config.push_config.push_endpoint),
            is_export=bool(config.bigquery_config.table or config.cloud_storage_config.bucket),
        )


def _retry(config: Any) -> RetryBackoff | None:
    if not config.HasField("retry_policy"):
        return None
    policy = config.retry_policy
    minimum_s = wire.to_s(policy.minimum_backoff) if policy.HasField("minimum_backoff") else DEFAULT_MIN_BACKOFF_S
    maximum_s = wire.to_s(policy.maximum_backoff) if policy.HasField("maximum_backoff") else DEFAULT_MAX_BACKOFF_S
    return RetryBackoff(minimum_s, max(minimum_s, maximum_s))


def _expiration_s(config: Any) -> float | None:
    if not config.HasField("expiration_policy"):
        return float(DEFAULT_EXPIRATION_S)
    policy = config.expiration_policy
    return wire.to_s(policy.ttl) if policy.HasField("ttl") else None
