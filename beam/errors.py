"""What can stop a preprocessing job: one small tree, each class one sentence, each message with value, place and mend.

    PreprocessError
    ├── BadFlag            a flag of the command line is missing or malformed
    ├── SourceError        the source cannot be used at all
    │   ├── SourceNotFound     nothing is there
    │   ├── UnsupportedSource  it is there, in a form that we do not read
    │   ├── MissingColumns     it lacks columns that the pipeline needs
    │   └── EmptySource        it has a header or a schema, and no row
    ├── NoGoodRows         every row was rejected, or none fell into the training split
    └── OutputError        the output directory cannot be written or is not what the job left there

A DoFn's exception crosses the runner as text (Beam's traceback), so `from_runner` finds the message again in it.
"""

import re


class PreprocessError(Exception):
    """A preprocessing job cannot go on, and a person has to mend what the message names."""


class BadFlag(PreprocessError):
    """A flag of the command line is missing or malformed."""


class SourceError(PreprocessError):
    """The source cannot be used at all."""


class SourceNotFound(SourceError):
    """Nothing is found at the source's address."""


class UnsupportedSource(SourceError):
    """The source exists in a form that we do not read."""


class MissingColumns(SourceError):
    """The source lacks columns that the pipeline needs."""


class EmptySource(SourceError):
    """The source has a header or a schema, and no row."""


class NoGoodRows(PreprocessError):
    """Every row was rejected, or none of the good ones fell into the training split."""


class OutputError(PreprocessError):
    """The output directory cannot be written, or is not what this job left there."""


# What the same job on the same input would end with again; a plain SourceError may be a service that was away.
FINAL = (BadFlag, SourceNotFound, UnsupportedSource, MissingColumns, EmptySource, NoGoodRows)
_KINDS = {
    kind.__name__: kind
    for kind in (
        BadFlag,
        SourceError,
        SourceNotFound,
        UnsupportedSource,
        MissingColumns,
        EmptySource,
        NoGoodRows,
        OutputError,
    )
}
# Its own line of a traceback, "beam.errors.NoGoodRows: …", or after "RuntimeError: ", as the runner in one process has it.
_IN_TEXT = re.compile(rf"\b(?P<kind>{'|'.join(_KINDS)}): (?P<message>.+?)(?: \[while running .*)?$", re.MULTILINE)


def from_runner(error: BaseException) -> PreprocessError | None:
    """Return the `PreprocessError` that a runner wrapped in its own exception; None if there is none."""
    found = list(_IN_TEXT.finditer(f"{type(error).__name__}: {error}"))
    return _KINDS[found[-1]["kind"]](found[-1]["message"]) if found else None
