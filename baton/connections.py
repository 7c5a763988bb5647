"""The one place where Google's clients are made, from a profile; each on first use.

The clients read emulator addresses and credentials from the process's environment, hence the profile is applied to it
first. One process talks to one cloud.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from google.api_core import exceptions as google_errors
from google.auth.exceptions import GoogleAuthError, TransportError
from google.cloud import storage
from googleapiclient.errors import HttpError

from baton.errors import BatonError, NotKnown, Refused, Unreachable
from baton.profile import Profile
from workers.dataflow import Dataflow
from workers.errors import LaunchRefused, NotFound, PipelineError, SettingsError, TransientError, WorkerError
from workers.google_rest import GoogleRest
from workers.ledger import Ledger
from workers.objects import StorageObjects
from workers.pipeline import Catalog
from workers.publisher import PubSubPublisher
from workers.settings import Settings
from workers.storage_rest import StorageRest
from workers.vertex import CustomJobs, Operations, Vertex

_UNANSWERED = (
    TransientError,
    google_errors.RetryError,
    google_errors.ServerError,
    google_errors.TooManyRequests,
    ConnectionError,
)
KNOWN_FAULTS = (WorkerError, google_errors.GoogleAPIError, GoogleAuthError, HttpError, ConnectionError)


class Connections:
    """Clients of one cloud.

    Args:
        profile: which cloud; it is applied to this process's environment.
    """

    def __init__(self, profile: Profile) -> None:
        profile.apply()
        # It warns at each refresh of a token that it cannot change a time-out, which we set ourselves.
        logging.getLogger("google_auth_httplib2").setLevel(logging.ERROR)
        self.profile = profile

    @cached_property
    def settings(self) -> Settings:
        return Settings.from_environment(self.profile.variables)

    @cached_property
    def storage(self) -> storage.Client:
        return storage.Client(project=self.profile.project)

    @cached_property
    def objects(self) -> StorageObjects:
        return StorageObjects(self.small_objects, self.profile.bucket)

    @cached_property
    def small_objects(self) -> StorageRest:
        return StorageRest(self.settings.storage_endpoint)

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(self.objects)

    @cached_property
    def publisher(self) -> PubSubPublisher:
        return PubSubPublisher(self.profile.project)

    @cached_property
    def catalog(self) -> Catalog:
        return Catalog(self.profile.pipelines_dir)

    @cached_property
    def dataflow(self) -> Dataflow:
        return Dataflow(
            GoogleRest("dataflow", "v1b3", self.profile.get("BATON_DATAFLOW_ENDPOINT")), self.profile.project
        )

    @cached_property
    def vertex(self) -> Vertex:
        return Vertex(self.profile.project, self.profile.get("BATON_AIPLATFORM_ENDPOINT"))

    @cached_property
    def custom_jobs(self) -> CustomJobs:
        return CustomJobs(self.vertex)

    @cached_property
    def operations(self) -> Operations:
        return Operations(self.vertex)

    @cached_property
    def cloud_logging(self) -> GoogleRest:
        return GoogleRest("logging", "v2", self.profile.get("BATON_LOGGING_ENDPOINT"))

    @cached_property
    def subscriber(self) -> Any:
        import grpc
        from google.cloud import pubsub_v1
        from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

        if not self.profile.is_emulated:
            return pubsub_v1.SubscriberClient()
        # The client lifts gRPC's limit of 4 MiB for a response by itself, but not where it talks to an emulator; a message
        # may have 10 MB, and one such would keep every command from all that waits beside it.
        channel = grpc.insecure_channel(
            self.profile.get("PUBSUB_EMULATOR_HOST"), options=[("grpc.max_receive_message_length", -1)]
        )
        return pubsub_v1.SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))

    @cached_property
    def topics(self) -> Any:
        """The client for topics; `publisher` is the one for events."""
        from google.cloud import pubsub_v1

        return pubsub_v1.PublisherClient()

    def close(self) -> None:
        """Close what has been opened."""
        opened = vars(self)
        if "storage" in opened:
            self.storage.close()
        for name in ("small_objects", "publisher", "subscriber", "dataflow", "vertex", "cloud_logging"):
            if name in opened:
                opened[name].close()
        if "topics" in opened:
            self.topics.stop()


@contextmanager
def explaining(place: str = "") -> Iterator[None]:
    """Turn what Google's clients raise into what a person can act on."""
    try:
        yield
    except KNOWN_FAULTS as fault:
        raise explained(fault, place) from fault


def explained(fault: Exception, place: str = "") -> BatonError:
    """Return what Google's clients or the workers' code raised as what a command reports."""
    where = f" ({place})" if place else ""
    if isinstance(fault, NotFound | google_errors.NotFound):
        return NotKnown(f"{_message(fault)}{where}", "see `baton doctor` for what is missing")
    if isinstance(
        fault,
        TransientError
        | TransportError
        | google_errors.RetryError
        | google_errors.ServerError
        | google_errors.TooManyRequests,
    ):
        return Unreachable(f"{_message(fault)}{where}", "see `baton doctor`; the local cloud starts with `baton up`")
    if isinstance(fault, GoogleAuthError):
        # A local cloud is left alone while that variable leads to Google's (baton.profile).
        local = "for a local cloud, unset GOOGLE_CLOUD_PROJECT and run `baton up`"
        mend = f"run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS; {local}"
        return Refused(f"{_message(fault)}{where}", mend)
    if isinstance(fault, google_errors.Forbidden | google_errors.Unauthorized):
        return Refused(
            f"{_message(fault)}{where}", "give this account the role, or run `gcloud auth application-default login`"
        )
    if isinstance(fault, PipelineError | SettingsError):
        return Refused(str(fault))
    if isinstance(fault, LaunchRefused):
        return Refused(f"{fault.message}{where}", "mend the request")
    return BatonError(f"{_message(fault)}{where}", "see `baton doctor`")


def _message(fault: Exception) -> str:
    if isinstance(fault, GoogleAuthError) and fault.args:
        return str(fault.args[0])  # behind it comes the token server's whole answer, as a table
    return str(getattr(fault, "message", "") or fault)
