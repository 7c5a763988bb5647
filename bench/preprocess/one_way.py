"""One way of preprocessing, in a process of its own: `python -m bench.preprocess.one_way WAY SOURCE OUTPUT`.

It prints one JSON object: seconds from the end of the imports to the end of the work, processor seconds of its whole
life, rows written, and peak memory. The process's whole life is measured from outside.
"""

import importlib
import json
import resource
import sys
import time

WAYS = {
    "original": ("original", "from_memory"),
    "original_csv": ("original", "from_csv"),
    "arrow": ("plain_arrow", "work"),
    "ours": ("ours", "work"),
}


def main(way: str, source: str, output: str) -> None:
    """Import, then work, and say how long the work took."""
    if way not in WAYS:
        sys.exit(f"{way!r} is no way of preprocessing; choose one of {', '.join(WAYS)}")
    module, function = WAYS[way]
    work = getattr(importlib.import_module(f"bench.preprocess.{module}"), function)
    began_at = time.perf_counter()
    rows = work(source, output)
    run_s = time.perf_counter() - began_at
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s, peak_mib = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
    print(json.dumps({"run_s": run_s, "cpu_s": cpu_s, "rows_written": rows, "peak_mib": peak_mib}))


if __name__ == "__main__":
    main(*sys.argv[1:])
