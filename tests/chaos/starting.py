"""Starts many runs while everything is being spoilt: by event, by a file in a bucket, and some of them twice."""

import random
import threading
from collections.abc import Callable

from google.api_core import exceptions as google_errors
from google.cloud import storage

from messages.triggers import StoredObject
from tests.chaos.hands import Hands
from tests.support.house import DATA_BUCKET
from tests.support.parts_house import PartsHouse

_ONCE_IN = 5  # by a file; and as often told twice
_FAILING_ONCE_IN = 20  # a source that is not there: explained, not served
_AWAY = (google_errors.GoogleAPICallError, google_errors.RetryError, OSError)
_PAUSE_S = 0.2
_HANDS = 4


class Starter(Hands):
    """Starts `runs` runs from a few threads, each as often as it takes until the service has taken it.

    Attributes:
        pipelines: the pipeline of each run that is started, by run id; complete once `is_done`.
        failing: those of them that cannot be served.
    """

    def __init__(self, house: PartsHouse, runs: int, seed: int) -> None:
        super().__init__(_HANDS)
        self._house = house
        self._chance = random.Random(seed)
        self._tasks = [self._task(number) for number in range(runs)]
        self._lock = threading.Lock()
        self.runs = runs
        self.pipelines: dict[str, str] = {}
        self.failing: set[str] = set()

    @property
    def is_done(self) -> bool:
        """Whether all runs are started."""
        return len(self.pipelines) == self.runs and not self._tasks

    def _task(self, number: int) -> Callable[[], None]:
        pipeline = self._chance.choice(self._house.pipelines)
        if self._chance.randrange(_ONCE_IN) == 0:
            return lambda: self._by_file(f"incoming/{pipeline}/births-{number}.csv", pipeline)
        is_failing = self._chance.randrange(_FAILING_ONCE_IN) == 0
        source = "gs://data/missing.csv" if is_failing else "gs://data/births.csv"
        times = 2 if self._chance.randrange(_ONCE_IN) == 0 else 1
        return lambda: self._by_event(f"run-{number}", pipeline, source, times)

    def work(self, number: int) -> None:
        """Start one run after another."""
        while not self.stopping.is_set():
            with self._lock:
                task = self._tasks.pop(0) if self._tasks else None
            if task is None:
                return
            task()

    def _by_event(self, run_id: str, pipeline: str, source: str, times: int) -> None:
        for _ in range(times):
            self._until_taken(lambda: self._house.start_run(run_id, source, pipeline))
        if "missing" in source:
            self.failing.add(run_id)
        self.pipelines[run_id] = pipeline

    def _by_file(self, name: str, pipeline: str) -> None:
        found: list[storage.Blob] = []

        def upload() -> None:
            blob = self._house.storage().bucket(DATA_BUCKET).blob(name)
            try:
                blob.upload_from_string("births", if_generation_match=0, timeout=10, retry=None)
            except google_errors.PreconditionFailed:
                blob.reload(timeout=10, retry=None)  # it is there: only the answer was lost
            found.append(blob)

        self._until_taken(upload)
        run_id = StoredObject(DATA_BUCKET, name, int(found[-1].generation)).run_id
        self.pipelines[run_id] = pipeline

    def _until_taken(self, send: Callable[[], object]) -> None:
        while not self.stopping.is_set():
            try:
                send()
            except _AWAY:
                self.stopping.wait(_PAUSE_S)
            else:
                return
