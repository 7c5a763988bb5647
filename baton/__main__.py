"""The `baton` command: also `python -m baton`."""

import errno
import sys
from collections.abc import Sequence

from baton.errors import EXIT_INTERRUPTED, EXIT_OK, BatonError

_FULL = (errno.ENOSPC, errno.EDQUOT)  # the disk, or our share of it


def main() -> None:
    """Run the command line and exit with one of the codes of `baton.errors`."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command; return its exit code. Whatever goes wrong is said on stderr."""
    import click

    from baton.cli import baton

    try:
        # Not standalone: click would report Ctrl-C as exit code 1, and know nothing of our errors.
        code = baton.main(list(arguments), prog_name="baton", standalone_mode=False)
    except click.ClickException as fault:
        fault.show()
        return fault.exit_code
    except BatonError as fault:
        return _report(fault)
    except (click.Abort, KeyboardInterrupt):
        sys.stderr.write("interrupted\n")
        return EXIT_INTERRUPTED
    except Exception as fault:
        told = _explained(fault)
        if told is None:
            raise
        return _report(told)
    return code if isinstance(code, int) else EXIT_OK


def _explained(fault: Exception) -> BatonError | None:
    """Return what one of Google's clients raised as what we report; None for a defect of ours."""
    from baton.connections import KNOWN_FAULTS, explained

    if isinstance(fault, OSError) and fault.errno in _FULL:
        place = f" ({fault.filename})" if fault.filename else ""
        return BatonError(f"what was to be written could not be{place}: {fault.strerror}", "make room, then once more")
    return explained(fault) if isinstance(fault, KNOWN_FAULTS) else None


def _report(fault: BatonError) -> int:
    from baton.cli.common import report

    return report(fault)


if __name__ == "__main__":
    main()
