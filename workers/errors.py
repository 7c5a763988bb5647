"""What can go wrong in a worker; whether to try again is part of the class, not of its text.

WorkerError
├── SettingsError     the process cannot start as it is set
├── PipelineError     the pipeline's TOML is wrong, or there is none of that name: dead letter
├── Conflict          somebody else changed the ledger's object first: read again
├── TransientError    nothing is known or nothing happened: try again later
└── StageError        this attempt has failed for good
    ├── LaunchRefused the provider will not run the job as it was asked for
    └── BadOutput     the job says it succeeded, but what it left is not what the next stage needs
"""


class WorkerError(Exception):
    """Anything that a worker raises on purpose."""


class SettingsError(WorkerError):
    """A setting that is missing, malformed or out of range."""


class PipelineError(WorkerError):
    """A pipeline that cannot be read, or that nobody has defined."""


class Conflict(WorkerError):
    """A compare-and-set was lost: the object is no longer at the generation we read."""

    def __init__(self, name: str, generation: int) -> None:
        self.name = name
        self.generation = generation
        super().__init__(f"{name} is no longer at generation {generation}")


class TransientError(WorkerError):
    """A failure that says nothing about the request itself.

    Args:
        ambiguous: the request may have taken effect all the same (a lost answer): look before asking again.
        retry_after_s: when it makes sense to try again; None leaves it to the caller's backoff.
    """

    def __init__(self, message: str, *, ambiguous: bool = False, retry_after_s: float | None = None) -> None:
        self.ambiguous = ambiguous
        self.retry_after_s = retry_after_s
        super().__init__(message)


class StageError(WorkerError):
    """A failure that trying the same thing again will not cure.

    Args:
        message: the value and the place.
        mend: what to do about it.
        retry: whether a new attempt could still succeed.
    """

    reason = "stage-failed"

    def __init__(self, message: str, mend: str, *, retry: bool = False) -> None:
        self.message = message
        self.mend = mend
        self.retry = retry
        super().__init__(f"{message}; {mend}")


class LaunchRefused(StageError):
    """The provider refused the request itself."""

    reason = "launch-refused"


class NotFound(LaunchRefused):
    """The provider does not know the resource (HTTP 404)."""

    reason = "not-found"


class AlreadyExists(LaunchRefused):
    """The provider has a resource of that name already (HTTP 409)."""

    reason = "already-exists"


class BadOutput(StageError):
    """What a job left behind is missing, unreadable or not what the next stage needs."""

    reason = "bad-output"
