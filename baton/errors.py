"""What a command can end with: one small tree, and the exit code that belongs to each.

BatonError
├── Refused        the request cannot be carried out as it was asked
├── ProfileError   the settings do not say which cloud to talk to, or say it wrongly
├── Unreachable    the cloud that the settings name does not answer
├── NotKnown       there is no such run, endpoint or log
├── RunFailed      the run that was waited for ended without a served model
├── HasEnded       the run that is to be cancelled has ended
├── TimedOut       the run that was waited for has not ended yet
└── InUse          another `baton up` holds the data directory, or another terminal drives the backfill
"""

EXIT_OK = 0
EXIT_FAILED = 1  # what was asked about is not well: a failed run, a finding of `baton doctor`
EXIT_USAGE = 2  # the command line or a setting is wrong; click uses the same number
EXIT_UNREACHABLE = 3
EXIT_NOT_KNOWN = 4
EXIT_TIMED_OUT = 5
EXIT_IN_USE = 6
EXIT_INTERRUPTED = 130  # 128 + SIGINT, what a shell reports

EXIT_CODES_HELP = (
    f"exit codes: {EXIT_OK} well, {EXIT_FAILED} failed, {EXIT_USAGE} wrong use or setting, "
    f"{EXIT_UNREACHABLE} nothing answers, {EXIT_NOT_KNOWN} not known, {EXIT_TIMED_OUT} timed out, "
    f"{EXIT_IN_USE} in use by another, {EXIT_INTERRUPTED} interrupted"
)


class BatonError(Exception):
    """Anything that a command reports to a person.

    Args:
        message: the value and the place.
        mend: what to do about it; may be empty where the message says it.
    """

    exit_code = EXIT_FAILED

    def __init__(self, message: str, mend: str = "") -> None:
        self.message = message
        self.mend = mend
        super().__init__(f"{message}; {mend}" if mend else message)


class Refused(BatonError):
    """The request cannot be carried out as it was asked."""

    exit_code = EXIT_USAGE


class ProfileError(BatonError):
    """A setting is missing or malformed."""

    exit_code = EXIT_USAGE


class Unreachable(BatonError):
    """The cloud that the settings name does not answer."""

    exit_code = EXIT_UNREACHABLE


class NotKnown(BatonError):
    """There is no such run, endpoint or log."""

    exit_code = EXIT_NOT_KNOWN


class RunFailed(BatonError):
    """A run ended without its result."""


class HasEnded(BatonError):
    """A run that is to be cancelled has ended."""


class TimedOut(BatonError):
    """Something has not happened in the time given."""

    exit_code = EXIT_TIMED_OUT


class InUse(BatonError):
    """Another process holds it: a data directory, or a backfill."""

    exit_code = EXIT_IN_USE
