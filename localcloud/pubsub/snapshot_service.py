"""The snapshot and seek methods of `google.pubsub.v1.Subscriber`."""

import uuid
from typing import Any

from localcloud.pubsub import names, pages, validation, wire
from localcloud.pubsub.broker import Broker
from localcloud.pubsub.errors import FailedPrecondition, InvalidArgument
from localcloud.pubsub.masks import merge
from localcloud.pubsub.rpc import Methods
from localcloud.pubsub.snapshots import Snapshots

_LIST = wire.message_class("ListSnapshotsResponse")
_SEEK = wire.message_class("SeekResponse")
_UPDATABLE = frozenset(("labels", "expire_time"))


class SnapshotService:
    """Snapshots and seek over one broker."""

    def __init__(self, broker: Broker, snapshots: Snapshots) -> None:
        self._broker = broker
        self._snapshots = snapshots

    def register(self, methods: Methods) -> None:
        """Add the methods to the Subscriber service."""
        methods.unary("CreateSnapshot", "CreateSnapshotRequest", self.create_snapshot)
        methods.unary("GetSnapshot", "GetSnapshotRequest", self.get_snapshot)
        methods.unary("ListSnapshots", "ListSnapshotsRequest", self.list_snapshots)
        methods.unary("UpdateSnapshot", "UpdateSnapshotRequest", self.update_snapshot)
        methods.unary("DeleteSnapshot", "DeleteSnapshotRequest", self.delete_snapshot)
        methods.unary("Seek", "SeekRequest", self.seek)

    async def create_snapshot(self, request: Any, context: Any) -> Any:
        """Keep a subscription's unacked messages, and all that come later, under a name."""
        subscription = self._broker.registry.subscription(
            names.check(request.subscription, "subscriptions", "subscription")
        )
        name = request.name or f"{names.project_of(request.subscription)}/snapshots/server-picked-{uuid.uuid4().hex}"
        names.check(name, "snapshots")
        validation.labels(request.labels, name)
        if subscription.config.detached:
            raise FailedPrecondition(
                f"{subscription.name} is detached from its topic; it has no messages to keep in {name}."
            )
        return self._snapshots.shown(await self._snapshots.create(name, subscription, request.labels))

    async def get_snapshot(self, request: Any, context: Any) -> Any:
        """One snapshot."""
        return self._snapshots.shown(self._snapshots.get(names.check(request.snapshot, "snapshots", "snapshot")))

    async def list_snapshots(self, request: Any, context: Any) -> Any:
        """A project's snapshots, by name."""
        prefix = names.check_project(request.project) + "/snapshots/"
        snapshots, registry = self._snapshots, self._broker.registry
        found, token = pages.page(
            request.page_size,
            request.page_token,
            lambda after, count: registry.names_after(snapshots.names, prefix, after, count),
        )
        shown, token = pages.fitted(found, token, lambda name: snapshots.shown(snapshots.get(name)))
        return _LIST(snapshots=shown, next_page_token=token)

    async def update_snapshot(self, request: Any, context: Any) -> Any:
        """Change a snapshot's labels or expiry."""
        snapshot = self._snapshots.get(names.check(request.snapshot.name, "snapshots", "snapshot"))
        changed = merge(snapshot.config, request.snapshot, request.update_mask.paths, _UPDATABLE)
        validation.labels(changed.labels, changed.name)
        if wire.to_us(changed.expire_time) <= self._broker.now_us():
            raise InvalidArgument(f"expire_time of {changed.name} is not in the future; set a later one.")
        await self._snapshots.update(snapshot, changed)
        return self._snapshots.shown(snapshot)

    async def delete_snapshot(self, request: Any, context: Any) -> Any:
        """Delete a snapshot; what it alone held back is deleted too."""
        self._snapshots.delete(self._snapshots.get(names.check(request.snapshot, "snapshots", "snapshot")))
        await self._broker.store.settle()
        return wire.Empty()

    async def seek(self, request: Any, context: Any) -> Any:
        """Move a subscription to a time or a snapshot."""
        subscription = self._broker.registry.subscription(
            names.check(request.subscription, "subscriptions", "subscription")
        )
        if subscription.config.detached:
            raise FailedPrecondition(f"{subscription.name} is detached from its topic; it has no messages to seek in.")
        target = request.WhichOneof("target")
        if target == "time":
            self._snapshots.seek_to_time(subscription, wire.to_us(request.time))
        elif target == "snapshot":
            snapshot = self._snapshots.get(names.check(request.snapshot, "snapshots", "snapshot"))
            self._snapshots.seek_to_snapshot(subscription, snapshot)
        else:
            raise InvalidArgument(f"a seek of {subscription.name} has no target; set time or snapshot.")
        await self._broker.store.settle()
        return _SEEK()
