"""What the engine may answer, and the times that it goes by."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from workers.ledger import Entry
from workers.record import JobRef, StageRecord

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Policy:
    """Times of the protocol, in seconds; see `workers.settings.TABLE`.

    Args:
        settle_s: how long an intent is left to who wrote it. It must cover `late_s`, the longest way of a request, and
            how far the provider's lists lie behind: whoever takes over later finds what the owner made.
        stop_s: how long after its cancellation a job may take to end before a person has to look.
    """

    settle_s: float = 10.0
    backoff_first_s: float = 2.0
    backoff_max_s: float = 300.0
    stop_s: float = 900.0

    @property
    def late_s(self) -> float:
        """How long after its intent an owner may still act on it without looking again."""
        return self.settle_s / 3


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing is left to do here for this run; `record` is None where it was never claimed."""

    record: StageRecord | None


@dataclass(frozen=True, slots=True)
class Later:
    """Call `advance` again after `wait_s`."""

    wait_s: float


@dataclass(frozen=True, slots=True)
class Watch:
    """A job is running: look at its state, and tell `observe`."""

    entry: Entry
    job: JobRef


Next = Done | Later | Watch
