"""What one worker holds: `python -m bench.inflight [--jobs 0,100,1000,10000] [--json FILE]`.

For each number, on a fresh local cloud: that many running jobs are put into the ledger, as another worker would have left
them; a worker starts and takes them over; what it asks for at rest is counted, and its memory and processor time; jobs
end at random, and the next events are waited for; more messages come in and are launched. The calls of the jobs' API are
counted by the service that stands in for Dataflow and Vertex AI, those of the ledger by the door to the local cloud's
Cloud Storage. Ten thousand take about five minutes.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

from bench.inflight.measure import HEAD, Found, measure, row

STAGES = ("train", "preprocess")


def main() -> int:
    """Measure, and print the table."""
    arguments = _parser().parse_args()
    rows: list[Found] = []
    for stage in arguments.stages.split(","):
        for jobs in (int(text) for text in arguments.jobs.split(",")):
            with tempfile.TemporaryDirectory(prefix="baton-inflight-") as folder:
                rows.append(measure(Path(folder), stage, jobs, arguments.way_in, arguments.seed, _say))
            if arguments.json:
                arguments.json.write_text(json.dumps({"machine": _machine(), "rows": [r.to_json() for r in rows]}))
    print(f"{_machine()}; seed {arguments.seed}\n")
    print("| " + " | ".join(HEAD) + " |")
    print("|---" * len(HEAD) + "|")
    for found in rows:
        print("| " + " | ".join(row(found)) + " |")
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _machine() -> str:
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.inflight", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", default="0,100,1000,10000", help="running jobs, one measurement each (%(default)s)")
    parser.add_argument("--stages", default=",".join(STAGES), help="whose workers (%(default)s)")
    parser.add_argument("--way-in", type=int, default=500, help="messages that come in at the end (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="chooses the jobs that end (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures here as well")
    return parser


if __name__ == "__main__":
    sys.exit(main())
