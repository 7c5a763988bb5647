"""`python -m localcloud.storage`: the storage server alone; its events go to PUBSUB_EMULATOR_HOST."""

import sys

from localcloud import standalone
from localcloud.storage.server import StorageServer


def main(arguments: list[str] | None = None) -> int:
    """Run until a signal; return the exit code."""
    options = standalone.parser("storage", "Cloud Storage's JSON API on this machine.").parse_args(arguments)
    return standalone.run("storage", options, StorageServer)


if __name__ == "__main__":
    sys.exit(main())
