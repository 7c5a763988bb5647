"""Dataflow, Vertex AI and Cloud Logging on this machine: jobs and model servers run as local processes."""

from localcloud.jobs.server import JobsServer

__all__ = ["JobsServer"]
