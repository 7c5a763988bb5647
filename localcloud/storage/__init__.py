"""Cloud Storage on a laptop: Google's JSON API with preconditions that hold, and notifications into the broker."""

from localcloud.storage.server import StorageServer

__all__ = ["StorageServer"]
