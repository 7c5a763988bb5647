"""Our Pub/Sub and Google's emulator, measured in one run by the same load: `python -m bench.pubsub [--repetitions N]`.

The brokers take turns, each repetition on fresh processes and fresh folders, and the ratio is taken within a repetition:
a machine that is slower for a minute is slower for both. Ours is durable, as it is by default: a publish counts once it
is on disk.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.pubsub import brokers, raw
from bench.pubsub.figures import FIGURES, Samples, quantile, ratio, table

RESULTS = brokers.ROOT / "bench" / "results" / "pubsub.json"
WAITING = 100_000
_PUBLISH_S = 4.0
_PULL_S = 4.0
_LATENCY_S = 10.0
_LOAD_LIMIT_S = 180.0

Start = Callable[[Path], brokers.BrokerProcess]


def load(broker: brokers.BrokerProcess, scenario: str, name: str, **options: float) -> dict[str, Any]:
    """Run the generator against a topic of its own and return what it measured."""
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
    argv = [sys.executable, "-m", "bench.pubsub.load", broker.address, scenario, name, *flags]
    done = subprocess.run(argv, cwd=brokers.ROOT, capture_output=True, text=True, timeout=_LOAD_LIMIT_S)
    if done.returncode:
        sys.exit(f"{' '.join(argv)} failed:\n{done.stderr[-3000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def measure_paced(broker: brokers.BrokerProcess) -> dict[str, float]:
    """Start-up, memory, latency and publishing, on a broker that holds no backlog."""
    found = {"startup_s": broker.startup_s, "idle_bytes": float(broker.memory_bytes())}
    for per_s in (10, 100):
        raw.create(broker.address, f"latency-{per_s}")
        delays_s = load(broker, "latency", f"latency-{per_s}", per_s=per_s, seconds=_LATENCY_S)["delays_s"]
        found[f"latency_{per_s}_p50_s"] = quantile(delays_s, 0.5)
        found[f"latency_{per_s}_p99_s"] = quantile(delays_s, 0.99)
    for per_request in (1, 100):
        name = f"publish-{per_request}"
        raw.create(broker.address, name)
        answer = load(broker, "publish", name, per_request=per_request, seconds=_PUBLISH_S)
        found[f"publish_{per_request}_per_s"] = answer["per_s"]
    return found


def measure_backlog(broker: brokers.BrokerProcess) -> dict[str, float]:
    """Memory with messages waiting, and how quickly they are read and acked."""
    found = {}
    for streams in (1, 8):
        name = f"pull-{streams}"
        raw.create(broker.address, name)
        load(broker, "fill", name, count=WAITING)
        if streams == 1:
            found["backlog_bytes"] = float(broker.memory_bytes())
        answer = load(broker, "drain", name, streams=streams, count=WAITING, seconds=_PULL_S)
        found[f"pull_{streams}_per_s"] = answer["per_s"]
    return found


def measure(start: Start, scratch: Path) -> dict[str, float]:
    """All figures of one broker, once."""
    found: dict[str, float] = {}
    for part in (measure_paced, measure_backlog):
        with tempfile.TemporaryDirectory(dir=scratch) as data_dir, start(Path(data_dir)) as broker:
            found |= part(broker)
    return found


def environment() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "grpcio": version("grpcio"),
        "load_average": os.getloadavg(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def main() -> None:
    """Measure, print the table, keep the samples."""
    parser = argparse.ArgumentParser(prog="python -m bench.pubsub", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=3, help="turns of each broker (default: %(default)s)")
    parser.add_argument("--only", choices=("ours", "google"), help="measure one broker alone")
    parser.add_argument("--scratch", type=Path, help="folder on the disk to measure (default: the temporary one)")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the samples go (default: %(default)s)")
    chosen = parser.parse_args()
    starts: dict[str, Start] = {"ours": brokers.ours}
    jar = brokers.find_jar()
    if jar is None:
        print(
            "Google's emulator was not found: install it, or set PUBSUB_EMULATOR_JAR to its -all.jar.", file=sys.stderr
        )
    else:
        starts["google"] = lambda data_dir: brokers.google(jar)
    starts = {name: start for name, start in starts.items() if chosen.only in (None, name)}
    scratch = chosen.scratch or Path(tempfile.gettempdir())

    samples: dict[str, Samples] = {name: {figure.key: [] for figure in FIGURES} for name in starts}
    before = environment()
    for start in starts.values():  # caches of files and byte code are warm from here on, for both
        with tempfile.TemporaryDirectory(dir=scratch) as data_dir, start(Path(data_dir)):
            pass
    for turn in range(1, chosen.repetitions + 1):
        for name, start in starts.items():
            print(f"repetition {turn} of {chosen.repetitions}: {name}", file=sys.stderr, flush=True)
            for key, value in measure(start, scratch).items():
                samples[name][key].append(value)
    print(table(samples))
    ratios = {item.key: ratio(item, samples.get("ours", {}), samples.get("google", {})) for item in FIGURES}
    report = {
        "before": before,
        "after": environment(),
        "jar": str(jar and jar.name),
        "samples": samples,
        "ratios": ratios,
    }
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps(report, indent=1), encoding="utf-8")
    print(f"samples: {chosen.json}", file=sys.stderr)


if __name__ == "__main__":
    main()
