"""A Pub/Sub for laptops and CI: Google's protocol, SQLite underneath. `python -m localcloud.pubsub --help`."""

from localcloud.pubsub.server import PubSubServer

__all__ = ["PubSubServer"]
