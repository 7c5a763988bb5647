"""`python -m localcloud.metadata`: the metadata server alone."""

import sys

from localcloud import standalone
from localcloud.metadata.server import MetadataServer


def main(arguments: list[str] | None = None) -> int:
    """Run until a signal; return the exit code."""
    parser = standalone.parser("metadata", "A metadata server for Application Default Credentials on this machine.")
    parser.add_argument("--project", default="baton-local", help="the project's id (default: %(default)s)")
    parser.add_argument("--region", default="us-central1", help="the region it claims (default: %(default)s)")
    options = parser.parse_args(arguments)
    return standalone.run("metadata", options, MetadataServer, project=options.project, region=options.region)


if __name__ == "__main__":
    sys.exit(main())
