"""What time alone brings about: retention, the expiration of idle subscriptions and of snapshots.

Messages older than the retention are never handed out, whenever housekeeping last ran; here they are only cleared away.
"""

import logging

from localcloud.pubsub.broker import Broker
from localcloud.pubsub.clock import Timer
from localcloud.pubsub.errors import NotFound
from localcloud.pubsub.snapshots import Snapshots
from localcloud.pubsub.subscription import Subscription

_LOG = logging.getLogger(__name__)
_EVERY_S = 300.0


class Housekeeping:
    """Rounds at an interval, on the broker's clock."""

    def __init__(self, broker: Broker, snapshots: Snapshots) -> None:
        self._broker = broker
        self._snapshots = snapshots
        self._timer: Timer | None = None

    def start(self) -> None:
        """Do a first round and go on until `stop`."""
        self.run()
        self._timer = self._broker.clock.call_later(_EVERY_S, self.start)

    def stop(self) -> None:
        """No more rounds."""
        if self._timer is not None:
            self._timer.cancel()

    def run(self) -> None:
        """One round."""
        now_us = self._broker.now_us()
        self._snapshots.delete_expired(now_us)
        self._broker.store.reclaim()
        for subscription in list(self._broker.registry.subscriptions.values()):
            self._expire_messages(subscription, now_us)
            self._expire(subscription, now_us)
        for topic in self._broker.registry.topics_by_no.values():
            if topic.retention_s or any(item.settings.retains_acked for item in topic.subscriptions.values()):
                self._broker.mark_for_trim(topic)

    def _expire_messages(self, subscription: Subscription, now_us: int) -> None:
        """Move the position past messages older than the retention, unless some are leased: those pass when they return."""
        log = subscription.log
        if subscription.backlog.cursor >= log.last_position or subscription.is_leasing:
            return
        target = log.last_before(now_us - int(subscription.retention_s * 1e6))
        if target > subscription.backlog.cursor:
            self._broker.write_acks(subscription)
            self._broker.reposition(subscription, target)

    def _expire(self, subscription: Subscription, now_us: int) -> None:
        if subscription.consumers:
            subscription.active_us = now_us
        if subscription.active_us > subscription.saved_active_us:
            self._broker.store.write(
                "UPDATE subscriptions SET active_us = ? WHERE no = ?", [(subscription.active_us, subscription.no)]
            )
            subscription.saved_active_us = subscription.active_us
            self._broker.store.flush_within(1.0)
        ttl_s = subscription.settings.expiration_s
        if ttl_s is not None and now_us - subscription.active_us > ttl_s * 1e6:
            _LOG.info(
                "subscription expired", extra={"action": "subscription_expired", "subscription": subscription.name}
            )
            self._broker.delete_subscription(
                subscription, NotFound(f"subscription {subscription.name} has expired after {ttl_s:g} s without use.")
            )
            self._broker.store.flush_within(1.0)
