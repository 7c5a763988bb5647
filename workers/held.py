"""A running job as a worker holds it between two looks.

One process may hold ten thousand of them, and a record read into objects takes five times the room of its text. So the text
is kept, and read again when something has happened; until then what is needed is beside it.
"""

import sys
from dataclasses import dataclass
from datetime import datetime

from workers.durations import Kind
from workers.ledger import Entry
from workers.record import JobRef, StageRecord
from workers.steps import Watch


@dataclass(frozen=True, slots=True)
class Held:
    """See the module's text.

    Args:
        phase: the number of the record's phase.
        since: when the job was written down.
        deadline_s: how long it may take from then.
    """

    run_id: str
    pipeline: str
    phase: int
    job: JobRef
    since: datetime
    deadline_s: float
    content: bytes
    generation: int

    @classmethod
    def of(cls, watch: Watch, deadline_s: float) -> "Held":
        """Return what there is to hold of a watched job."""
        entry, record = watch.entry, watch.entry.record
        return cls(
            record.run_id,
            sys.intern(record.pipeline),  # ten thousand runs are of a few pipelines
            record.phase,
            watch.job,
            record.since,
            deadline_s,
            record.to_json(),
            entry.generation,
        )

    @property
    def kind(self) -> Kind:
        """What other jobs should take about as long."""
        return self.pipeline, self.phase

    @property
    def entry(self) -> Entry:
        """The record as it was read."""
        return Entry(StageRecord.from_json(self.content), self.generation)

    def age_s(self, now: datetime) -> float:
        """Return for how long the job has been written down."""
        return (now - self.since).total_seconds()
