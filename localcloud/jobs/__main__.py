"""`python -m localcloud.jobs`: the jobs service alone; addresses of the other parts come from the environment."""

import sys
from pathlib import Path

from localcloud import standalone
from localcloud.jobs.images import Images, ImagesError
from localcloud.jobs.server import JobsServer


def main(arguments: list[str] | None = None) -> int:
    """Run until a signal; return the exit code."""
    parser = standalone.parser(
        "jobs", "Dataflow, Vertex AI and Cloud Logging on this machine; jobs are local processes."
    )
    parser.add_argument("--images", type=Path, required=True, help="TOML table: which command stands for which image")
    parser.add_argument(
        "--max-parallel-jobs",
        type=int,
        default=None,
        help="how many jobs run at once, others wait queued (default: the number of processors)",
    )
    options = parser.parse_args(arguments)
    try:
        images = Images.load(options.images)
    except ImagesError as error:
        print(f"localcloud.jobs: {error}", file=sys.stderr)  # noqa: T201  (a person reads this one)
        return standalone.EXIT_CANNOT_START
    return standalone.run("jobs", options, JobsServer, images=images, max_parallel_jobs=options.max_parallel_jobs)


if __name__ == "__main__":
    sys.exit(main())
