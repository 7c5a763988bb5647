"""The world outside: what starts runs, what is no event at all, and people who cancel."""

import json
from collections.abc import Callable

from messages import DataReady, Envelope, Event, PreprocessDone, TrainDone, encode
from messages.topics import DATA_READY, SUBSCRIPTIONS
from messages.triggers import StoredObject
from tests.simulation.pubsub import Broker
from tests.simulation.scenario import Run
from tests.simulation.storage import Bucket
from tests.simulation.vertex import put_served
from tests.simulation.worker import BEGINNING

PIPELINE = "p"
_NONSENSE: tuple[tuple[bytes, dict[str, str]], ...] = (
    (b"\xff\xfe no JSON", {}),
    (b"{}", {"ce-type": "baton.no.such.v1", "ce-id": "x", "ce-subject": "x1", "ce-time": "2026-01-01T00:00:00Z"}),
    (b'{"pipeline": "unknown", "source": "gs://b/x"}', {}),
    (b'{"pipeline": "p"}', {}),
    (b'{"pipeline": "p", "source": "gs://b/x", "params": {"limt": 3}}', {}),
    (b"{}", {"eventType": "OBJECT_DELETE", "bucketId": "b", "objectId": "incoming/x", "objectGeneration": "1"}),
    (b"{}", {"eventType": "OBJECT_FINALIZE", "bucketId": "b", "objectId": "elsewhere/x", "objectGeneration": "1"}),
    (b"{}", {"eventType": "OBJECT_FINALIZE", "bucketId": "b", "objectId": "incoming/x", "objectGeneration": "one"}),
)
_FILTERED = (5, 6)  # of these, what is put aside without a dead letter: well-formed, and no new data of ours


class Teller:
    """Publishes from outside, and remembers what must come of it.

    `expected` maps a message's id to the run that it belongs to, or to "dead-letter" or "filtered".
    """

    def __init__(self, broker: Broker, bucket: Bucket, subscription: str) -> None:
        self._broker = broker
        self._bucket = bucket
        self._topic = SUBSCRIPTIONS[subscription]
        self.expected: dict[str, str] = {}
        self._stored: dict[str, StoredObject] = {}

    def run_id(self, run: Run) -> str:
        """Return the id that the workers will give to the run; bare JSON has it from its message."""
        if run.told in ("notification", "trigger"):
            return self._object(run).run_id
        return run.id

    def tell(self, run: Run) -> str:
        """Publish the message that starts the run; return the run's id."""
        if run.told == "bare":
            body = json.dumps({"pipeline": PIPELINE, "source": "gs://b/incoming/bare.csv"}).encode()
            message_id = self._broker.publish(DATA_READY, body, {})
            self.expected[message_id] = f"m-{message_id}"
            return self.expected[message_id]
        if run.told in ("notification", "trigger"):
            stored = self._object(run)
            attributes = {
                "eventType": "OBJECT_FINALIZE", "bucketId": stored.bucket, "objectId": stored.name,
                "objectGeneration": str(stored.generation), "notificationConfig": "projects/_/buckets/b/1",
            }  # fmt: skip
            message_id = self._broker.publish(DATA_READY, b"{}", attributes)
        else:
            envelope = Envelope(f"{run.id}.told", run.id, "//outside", BEGINNING, self._event(run))
            message_id = self._broker.publish(self._topic, *encode(envelope))
        self.expected[message_id] = self.run_id(run)
        return self.expected[message_id]

    def talk_nonsense(self, which: int) -> None:
        """Publish something that is no event; only the first stage's readers take all of it."""
        data, attributes = _NONSENSE[which % len(_NONSENSE)]
        is_filtered = which % len(_NONSENSE) in _FILTERED and self._topic == DATA_READY
        message_id = self._broker.publish(self._topic, data, attributes)
        self.expected[message_id] = "filtered" if is_filtered else "dead-letter"

    def _object(self, run: Run) -> StoredObject:
        """Return the object that tells of the run, written the first time that somebody asks."""
        if run.id not in self._stored:
            suffix = "csv" if run.told == "notification" else "trigger.json"
            name = f"incoming/{run.id}.{suffix}"
            content = json.dumps({"pipeline": PIPELINE, "source": "gs://b/x.csv"}).encode()
            self._stored[run.id] = StoredObject("b", name, self._bucket.put(f"gs://b/{name}", content))
        return self._stored[run.id]

    def _event(self, run: Run) -> Event:
        makers: dict[str, Callable[[], Event]] = {
            "data-ready": lambda: DataReady(pipeline=PIPELINE, source="gs://b/x.csv"),
            "preprocess-done": lambda: PreprocessDone(pipeline=PIPELINE, dataset_uri="gs://b/dataset"),
            "train-done": lambda: TrainDone(pipeline=PIPELINE, model_uri=self._model(run), metrics={"rmse_lb": 1.0}),
        }
        return makers[self._topic]()

    def _model(self, run: Run) -> str:
        model = f"gs://b/models/{run.id}"
        put_served(self._bucket, model, [7.5], [7.5] if run.serves_right else [9.9])
        return model
