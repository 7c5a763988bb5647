"""The ways in which a training job can be refused; each carries the value, the place and the mend as fields.

    TrainerError
    ├── SettingsError       a flag or environment variable cannot be used
    ├── StorageError        a directory or file cannot be read or written
    ├── DatasetError        the dataset is missing, empty or not what its manifest says
    ├── CheckpointMismatch  the checkpoint directory belongs to another run
    ├── DivergedError       the loss is no longer a number
    └── ExportError         the exported files do not agree with the trained model

`Interrupted` stands apart: nothing is wrong, the process was asked to end.
"""


class Interrupted(Exception):
    """The process was asked to end, and the state so far has been saved."""


class TrainerError(Exception):
    """Training cannot go on, and trying again unchanged will not help.

    Args:
        problem: what is wrong, in one sentence.
        value: the offending value.
        place: where it was found (a flag, a variable, a file).
        mend: what the reader should do.
    """

    def __init__(self, problem: str, *, value: object, place: str, mend: str) -> None:
        super().__init__(f"{problem}: {value!r} ({place}); {mend}")
        self.value = value
        self.place = place
        self.mend = mend


class SettingsError(TrainerError):
    """A flag or environment variable cannot be used."""


class StorageError(TrainerError):
    """A directory or file cannot be read or written."""


class DatasetError(TrainerError):
    """The dataset is missing, empty or not what its manifest says."""


class CheckpointMismatch(TrainerError):
    """The checkpoint directory belongs to a run with other settings or other data."""


class DivergedError(TrainerError):
    """The loss is no longer a number."""


class ExportError(TrainerError):
    """The exported files do not agree with the trained model."""
