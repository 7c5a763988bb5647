"""What the jobs service remembers of a run (one process, over all its attempts) and of a job (what the APIs show)."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from localcloud.jobs.store import Document

Phase = Literal["queued", "starting", "running", "ended"]
JobKind = Literal["dataflow", "custom"]

ACTIVE_STATES = frozenset({"JOB_STATE_QUEUED", "JOB_STATE_PENDING", "JOB_STATE_RUNNING", "JOB_STATE_CANCELLING"})


class _Record:
    """Frozen records that travel to and from documents."""

    __slots__ = ()

    @classmethod
    def of(cls, document: Document) -> Self:
        """Read a document back."""
        return cls(**document)

    def document(self) -> Document:
        """The record as a plain mapping (shallow: its values are shared and never changed)."""
        return {name.name: getattr(self, name.name) for name in dataclasses.fields(self)}  # type: ignore[arg-type]

    def but(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]


@dataclass(frozen=True, slots=True)
class Run(_Record):
    """A process to be run, and how far it came. `phase` is the record of intent: written before each step is taken."""

    run_id: str
    owner: str  # the resource it serves, for the log
    argv: list[str]
    env: dict[str, str]
    directory: str  # "" means a scratch directory of its own
    log: str
    submitted_us: int
    takes_slot: bool = True
    not_before_us: int = 0  # start no earlier (a rehearsed delay)
    port_variable: str = ""  # the variable that tells a server its port; a free one is chosen at each start
    port: int = 0
    refusal: str = ""  # why it cannot be run at all (unknown image): it fails as soon as it would start
    timeout_s: float = 0.0  # 0 means none
    max_losses: int = 3  # how often it is started anew after dying without an exit code (pre-emption, reboot)
    phase: Phase = "queued"
    attempt: int = 0
    pid: int = 0
    losses: int = 0
    started_us: int = 0
    is_cancelled: bool = False
    is_interrupted: bool = False  # the service is being stopped: start anew next time, do not fail
    is_expired: bool = False

    @property
    def is_server(self) -> bool:
        """Whether it serves: then it has no success, and however it ends when the service stops, it comes back."""
        return bool(self.port_variable)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: with an exit code, or without one."""

    exit_code: int | None
    reason: Literal["exited", "cancelled", "expired", "lost", "refused"]
    message: str = ""

    @property
    def succeeded(self) -> bool:
        return self.reason == "exited" and self.exit_code == 0


@dataclass(frozen=True, slots=True)
class Job(_Record):
    """A Dataflow job or a Vertex AI custom job. `resource` is what the caller gave, in the API's own form."""

    kind: JobKind
    project: str
    location: str
    job_id: str
    name: str
    state: str
    create_us: int
    update_us: int
    run_id: str
    resource: dict[str, Any]
    labels: dict[str, str] = field(default_factory=dict)
    start_us: int = 0
    end_us: int = 0
    error: dict[str, Any] | None = None
    messages: list[dict[str, Any]] = field(default_factory=list)

    @property
    def parent(self) -> str:
        return f"projects/{self.project}/locations/{self.location}"

    @property
    def key(self) -> str:
        """Its name in the store, unique within its kind."""
        return f"{self.parent}/{self.job_id}"

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE_STATES
