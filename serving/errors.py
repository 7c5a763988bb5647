"""What can go wrong, before serving and while serving.

ServingError
├── StartError     the server cannot serve: settings or model files
└── RequestError   one request cannot be answered; carries its HTTP status and, for instances, each problem
"""

import reprlib
from dataclasses import asdict, dataclass
from typing import Any

_LITERALS = reprlib.Repr()
_LITERALS.maxlevel = 2
_LITERALS.maxstring = _LITERALS.maxother = 80


def shown(value: object) -> str:
    """A value as a message shows it: its literal, cut where it is long or deep."""
    return _LITERALS.repr(value)


class ServingError(Exception):
    """The base of all errors of this package."""


class StartError(ServingError):
    """The server cannot serve with these settings or model files."""

    def __init__(self, problem: str, *, value: object, place: str, mend: str) -> None:
        super().__init__(f"{problem}: {shown(value)} ({place}); {mend}")
        self.value = value
        self.place = place
        self.mend = mend


@dataclass(frozen=True)
class Problem:
    """What is wrong with one field of one instance.

    Attributes:
        instance: its index in the request, from 0.
        field: its name; empty where the instance itself is wrong.
        value: the offending value as a literal, cut where it is long.
    """

    instance: int
    field: str
    value: str
    problem: str
    mend: str

    def __str__(self) -> str:
        place = f"instances[{self.instance}]" + (f".{self.field}" if self.field else "")
        return f"{place} is {self.value}: {self.problem}; {self.mend}"


class RequestError(ServingError):
    """One request cannot be answered as it is."""

    def __init__(self, status_code: int, status: str, message: str, problems: list[Problem] | None = None) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.status = status
        self.problems = problems or []

    def as_json(self) -> dict[str, Any]:
        """The error in the form that Google's APIs use."""
        error: dict[str, Any] = {"code": self.status_code, "message": str(self), "status": self.status}
        if self.problems:
            error["details"] = [asdict(problem) for problem in self.problems]
        return {"error": error}


def invalid_argument(message: str, problems: list[Problem] | None = None) -> RequestError:
    """400: the request must be changed."""
    return RequestError(400, "INVALID_ARGUMENT", message, problems)
