"""The Python client: start runs, watch them, read their logs, ask the model. The command line does nothing else.

from baton import Client
client = Client()
run_id = client.publish_data_ready("bq://my-project.samples.natality", pipeline="babyweight")
run = client.wait(run_id, timeout_s=3600)
print(run.state, run.metrics)
print(client.predict([{"is_male": "True", "mother_age": 28, "plurality": "Single(1)", "gestation_weeks": 39}]))
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ulid import ULID

from baton import joblogs
from baton.connections import Connections, explaining
from baton.errors import NotKnown, Refused, TimedOut
from baton.joblogs import LogLine
from baton.operations import Operations
from baton.profile import Profile, load_profile
from baton.runs import Run, RunState, run_of
from baton.telling import check, event_of, tell
from messages import DataReady, Event, PreprocessDone, TrainDone
from messages.events import is_run_id
from messages.triggers import StoredObject
from workers.errors import LaunchRefused

DEFAULT_PIPELINE = "babyweight"
_POLL_FIRST_S = 0.2
_POLL_MAX_S = 5.0
_POLL_GROWTH = 1.2
_UNCLAIMED_S = 5.0  # an event that nobody has claimed by then may be a dead letter: look
_READERS = 8


@dataclass(frozen=True, slots=True)
class Upload:
    """An uploaded object, and the run that its notification starts."""

    uri: str
    run_id: str


class Client(Operations):
    """Baton's client.

    Args:
        profile: which cloud; by default the environment's, or the local one that `baton up` started. It is applied to
            this process's environment, where Google's clients look: one process talks to one cloud.

    Raises:
        ProfileError: no cloud is set.
        Unreachable: it does not answer.
    """

    def __init__(self, profile: Profile | None = None) -> None:
        self.profile = load_profile() if profile is None else profile
        self.profile.require_answers()
        self.connections = Connections(self.profile)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self.connections.close()

    # -- starting runs -----------------------------------------------------------------------------------------------

    def publish_data_ready(
        self,
        source: str,
        pipeline: str = DEFAULT_PIPELINE,
        *,
        params: Mapping[str, Any] | None = None,
        run_id: str | None = None,
    ) -> str:
        """Say that new data lies at `source` (`gs://…` or `bq://project.dataset.table`); return the run's id.

        Raises:
            Refused: the pipeline, a parameter, the source or the run id cannot be used.

        Example:
            client.publish_data_ready("gs://my-data/births.csv", params={"limit": 1000})
        """
        return self._publish(DataReady, pipeline, {"source": source}, params, run_id)

    def publish_preprocess_done(
        self,
        dataset_uri: str,
        pipeline: str = DEFAULT_PIPELINE,
        *,
        params: Mapping[str, Any] | None = None,
        run_id: str | None = None,
    ) -> str:
        """Say that a dataset lies at `dataset_uri`: the run begins with training; return the run's id."""
        return self._publish(PreprocessDone, pipeline, {"dataset_uri": dataset_uri}, params, run_id)

    def publish_train_done(
        self,
        model_uri: str,
        pipeline: str = DEFAULT_PIPELINE,
        *,
        params: Mapping[str, Any] | None = None,
        run_id: str | None = None,
    ) -> str:
        """Say that a trained model lies at `model_uri`: the run begins with its rollout; return the run's id."""
        return self._publish(TrainDone, pipeline, {"model_uri": model_uri}, params, run_id)

    def upload(self, path: Path, pipeline: str = DEFAULT_PIPELINE) -> Upload:
        """Put a file below the pipeline's trigger prefix in the data bucket: the bucket's notification starts a run.

        Raises:
            Refused: no such file, or the pipeline has no trigger.

        Example:
            client.wait(client.upload(Path("births.csv")).run_id)
        """
        if not path.is_file():
            raise Refused(f"{path} is no file", "give the path of a file to upload")
        with explaining(f"uploading {path}"):
            spec = self.connections.catalog.get(pipeline)
            if spec.trigger is None:
                raise Refused(f"pipeline {pipeline!r} has no [trigger]", f"add one with a prefix to {pipeline}.toml")
            blob = self.connections.storage.bucket(self.profile.data_bucket).blob(f"{spec.trigger.prefix}{path.name}")
            blob.upload_from_filename(str(path), timeout=300)
        stored = StoredObject(self.profile.data_bucket, blob.name, int(blob.generation))
        return Upload(stored.uri, stored.run_id)

    # -- looking at runs ---------------------------------------------------------------------------------------------

    def runs(self, limit: int = 20) -> list[Run]:
        """Return the `limit` runs that were started last, the newest first."""
        with explaining(f"gs://{self.profile.bucket}/runs/"), ThreadPoolExecutor(_READERS) as pool:
            found = list(pool.map(self._read, self._recent(limit)))
        return sorted(found, key=_newest_first, reverse=True)

    def run(self, run_id: str) -> Run:
        """Return one run.

        Raises:
            NotKnown: the ledger has no run of that id.
        """
        run = self.look(run_id)
        if run.state is RunState.WAITING:
            raise NotKnown(
                f"run {run_id!r} is not in the ledger gs://{self.profile.bucket}/runs/",
                "see `baton runs`; a run just published appears when a worker has claimed it",
            )
        return run

    def look(self, run_id: str) -> Run:
        """Return one run; one that no worker has claimed yet is there too, as waiting."""
        if not is_run_id(run_id):
            raise Refused(f"{run_id!r} can name no run", "give 1 to 63 lower-case letters, digits and inner hyphens")
        with explaining(f"run {run_id}"):
            return self._read(run_id)

    def wait(self, run_id: str, timeout_s: float | None = None, on_change: Callable[[Run], None] | None = None) -> Run:
        """Wait until the run has ended, and return it, however it ended.

        Args:
            timeout_s: how long at most; None = as long as it takes.
            on_change: called with the run each time that it has moved.

        Raises:
            RunFailed: no worker could use the run's event: it is a dead letter.
            TimedOut: the run goes on; waiting for it again is fine.
        """
        began, interval_s, before = time.monotonic(), _POLL_FIRST_S, None
        while True:
            run = self.look(run_id)
            if run != before and on_change is not None:
                on_change(run)
            if run.state.is_final:
                return run
            waited_s = time.monotonic() - began
            if run.state is RunState.WAITING and waited_s > _UNCLAIMED_S:
                self.refuse_dead_letter(run_id)
            if timeout_s is not None and waited_s >= timeout_s:
                hint = "are the workers up? see `baton doctor`" if run.state is RunState.WAITING else "it goes on"
                raise TimedOut(
                    f"run {run_id} is {run.state.value} after {timeout_s:g} s ({hint})",
                    f"look again with `baton runs watch {run_id}`",
                )
            interval_s = _POLL_FIRST_S if run != before else min(interval_s * _POLL_GROWTH, _POLL_MAX_S)
            before = run
            time.sleep(interval_s if timeout_s is None else max(0.0, min(interval_s, timeout_s - waited_s)))

    def logs(self, run_id: str, stage: str | None = None, since: str = "") -> list[LogLine]:
        """Return what the run's jobs wrote, of one stage or of all, the oldest first.

        Args:
            since: RFC 3339; only lines from this time on.
        """
        run = self.run(run_id)
        if stage is not None and run.stage(stage) is None:
            names = ", ".join(view.name for view in run.stages)
            raise NotKnown(f"run {run_id} has no stage {stage!r}", f"its stages are {names}")
        with explaining(f"logs of run {run_id}"):
            return list(joblogs.lines_of(self.connections.cloud_logging, self.profile.project, run, stage, since))

    # -- the model ---------------------------------------------------------------------------------------------------

    def predict(self, instances: Sequence[Mapping[str, Any]], pipeline: str = DEFAULT_PIPELINE) -> list[Any]:
        """Ask the pipeline's endpoint; return one prediction for each instance.

        Raises:
            NotKnown: nothing is deployed there yet.
            Refused: an instance is wrong; the model's server names the field.
        """
        name = self.endpoint(pipeline)
        with explaining(f"endpoint {name}"), _model_refusals():
            vertex, region = self.connections.vertex, self.profile.region
            endpoints = vertex.locations(region).endpoints()
            request = endpoints.predict(endpoint=name, body={"instances": [dict(i) for i in instances]})
            answer = vertex.rest(region).read(request)
        return list(answer.get("predictions", []))

    def endpoint(self, pipeline: str = DEFAULT_PIPELINE) -> str:
        """Return the resource name of the pipeline's endpoint, `projects/P/locations/R/endpoints/E`."""
        with explaining(f"pipeline {pipeline}"):
            spec = self.connections.catalog.get(pipeline)
        if spec.deploy is None:
            raise Refused(f"pipeline {pipeline!r} has no [deploy]", f"add it to {pipeline}.toml")
        return f"{self.connections.vertex.parent(self.profile.region)}/endpoints/{spec.deploy.endpoint}"

    # -- beneath -----------------------------------------------------------------------------------------------------

    def _publish(
        self,
        kind: type[Event],
        pipeline: str,
        body: Mapping[str, Any],
        params: Mapping[str, Any] | None,
        run_id: str | None,
    ) -> str:
        run_id = new_run_id() if run_id is None else run_id
        if not is_run_id(run_id):
            raise Refused(f"{run_id!r} can name no run", "give 1 to 63 lower-case letters, digits and inner hyphens")
        event = event_of(kind, pipeline, body, params)
        check(self.connections, event)
        tell(self.connections, event, run_id)
        return run_id

    def _read(self, run_id: str) -> Run:
        ledger = self.connections.ledger
        records = ledger.stages(run_id)
        return run_of(run_id, records, is_cancelled=ledger.is_cancelled(run_id))

    def _recent(self, limit: int) -> list[str]:
        """Return the ids of the runs whose records were made last: listing is cheap, reading is not."""
        made: dict[str, datetime] = {}
        blobs = self.connections.storage.list_blobs(
            self.profile.bucket, prefix="runs/", fields="items(name,timeCreated),nextPageToken"
        )
        for blob in blobs:
            run_id = blob.name.removeprefix("runs/").partition("/")[0]
            made[run_id] = max(blob.time_created, made.get(run_id, blob.time_created))
        return sorted(made, key=lambda run_id: made[run_id], reverse=True)[:limit]


def new_run_id() -> str:
    """Return a run id that sorts by time: a ULID, in lower case as run ids are."""
    return str(ULID()).lower()


def _newest_first(run: Run) -> tuple[bool, datetime]:
    return run.started is None, run.started or datetime.min.replace(tzinfo=UTC)


@contextmanager
def _model_refusals() -> Iterator[None]:
    """Say what the model's server said; the endpoint wraps its answer into an error of its own."""
    try:
        yield
    except LaunchRefused as fault:
        _, brace, rest = fault.message.partition("{")
        try:
            told = json.loads(brace + rest)["error"]["message"]
        except (ValueError, KeyError, TypeError):
            raise fault from None
        raise Refused(f"the model refuses: {told}", "mend the instance") from fault
