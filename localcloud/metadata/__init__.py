"""A metadata server on a laptop, so that Application Default Credentials resolve at once and to nothing real."""

from localcloud.metadata.server import MetadataServer

__all__ = ["MetadataServer"]
