"""One measurement: a worker that starts among so many running jobs, at rest, when jobs end, and when more come in."""

import random
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bench.inflight.desk import Desk, cpu_s, pss_bytes, run_id
from bench.pubsub.figures import quantile

POLL_MAX_S = 30.0  # the product's default, by which the calls are told
_SETTLE_S = 50.0  # a job found an hour old has its longest interval by then
_REST_S = 60.0
_ENDS = 200
_ENDS_OVER_S = 24.0
_LIMIT_S = 900.0


@dataclass
class Found:
    """What was measured; times in seconds.

    Args:
        start_s: from the worker's start to its first sweep.
        take_over_s: from its start until it holds all jobs.
        rest_calls: calls in a poll interval at rest, by method of the jobs' API.
        rest_looks: looks at all jobs in a poll interval.
        rest_pages: pages of one such look.
        rest_storage: calls in a poll interval at rest, by what of the ledger they ask for.
        rest_cpu_s: of the worker, in a minute at rest.
        pss_bytes: its proportional memory then; `peak_bytes`: its resident memory at its highest.
        to_event_s: from a job's end until the next event is with its subscriber: all samples.
        way_in: messages that came in at once.
        way_in_s: until all of them were claimed and launched.
        way_in_calls: calls for each of them, by method of the jobs' API.
    """

    stage: str
    jobs: int
    seed: int
    start_s: float = 0.0
    take_over_s: float = 0.0
    take_over_cpu_s: float = 0.0
    rest_calls: dict[str, float] = field(default_factory=dict)
    rest_looks: float = 0.0
    rest_pages: float = 0.0
    rest_storage: dict[str, float] = field(default_factory=dict)
    rest_cpu_s: float = 0.0
    pss_bytes: int = 0
    peak_bytes: int = 0
    to_event_s: list[float] = field(default_factory=list)
    way_in: int = 0
    way_in_s: float = 0.0
    way_in_cpu_s: float = 0.0
    way_in_calls: dict[str, float] = field(default_factory=dict)
    way_in_pss_bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def measure(folder: Path, stage: str, jobs: int, way_in: int, seed: int, say: Any) -> Found:
    """Measure one stage's worker with `jobs` running jobs, then with `way_in` more.

    Raises:
        RuntimeError: something did not come to its end.
    """
    found = Found(stage, jobs, seed)
    with Desk(folder, stage) as desk:
        say(f"{stage}: {jobs:,} running jobs are put into the ledger")
        desk.seed(range(jobs))
        worker = _take_over(desk, found)
        say(f"{stage}: taken over in {found.take_over_s:.1f} s; at rest for {_SETTLE_S + _REST_S:g} s")
        _rest(desk, worker, found)
        told = desk.listen()
        if jobs:
            say(f"{stage}: jobs end")
            _end_jobs(desk, told, found)
        if way_in:
            say(f"{stage}: {way_in:,} messages come in")
            _bring_in(desk, worker, way_in, found)
        found.peak_bytes = _peak_bytes(worker)
        desk.check()
        complaints = desk.complaints()
        if complaints:
            say(f"{stage}: the worker warned {len(complaints)} times, last: {complaints[-1][:300]}")
    return found


def _take_over(desk: Desk, found: Found) -> psutil.Process:
    began = time.monotonic()
    worker = desk.start_worker()
    desk.wait(lambda: desk.counts()["storage"].get("list inflight", 0) > 0, 60.0, "the first sweep")
    found.start_s = time.monotonic() - began
    desk.wait(lambda: desk.counts()["storage"].get("read runs", 0) >= found.jobs, _LIMIT_S, "taking all jobs over")
    found.take_over_s = time.monotonic() - began
    found.take_over_cpu_s = cpu_s(worker)
    return worker


def _rest(desk: Desk, worker: psutil.Process, found: Found) -> None:
    time.sleep(_SETTLE_S)
    before, cpu_before = desk.counts(), cpu_s(worker)
    time.sleep(_REST_S)
    after, cpu_after = desk.counts(), cpu_s(worker)
    per_interval = POLL_MAX_S / _REST_S
    found.rest_calls = _grown(before["calls"], after["calls"], per_interval)
    found.rest_storage = _grown(before["storage"], after["storage"], per_interval)
    looks = _grown(before["looks"], after["looks"], per_interval)
    found.rest_looks = sum(count for name, count in looks.items() if name.endswith(" all"))
    pages = sum(count for name, count in looks.items() if name.endswith(" all pages"))
    found.rest_pages = pages / found.rest_looks if found.rest_looks else 0.0
    found.rest_cpu_s = (cpu_after - cpu_before) * 60.0 / _REST_S
    found.pss_bytes = pss_bytes(worker)


def _end_jobs(desk: Desk, told: Any, found: Found) -> None:
    chosen = random.Random(found.seed).sample(range(found.jobs), min(_ENDS, found.jobs // 2))
    for number in chosen:
        desk.write_output(number)
    ended: dict[str, float] = {}
    for number in chosen:
        ended[run_id(number)] = time.monotonic()
        desk.end(number)
        time.sleep(_ENDS_OVER_S / len(chosen))
    deadline = time.monotonic() + _LIMIT_S
    while len(found.to_event_s) < len(ended):
        run, at = told.get(timeout=max(deadline - time.monotonic(), 0.001))
        if run in ended:
            found.to_event_s.append(at - ended[run])


def _bring_in(desk: Desk, worker: psutil.Process, count: int, found: Found) -> None:
    before, cpu_before = desk.counts(), cpu_s(worker)
    began = time.monotonic()
    desk.publish(range(found.jobs, found.jobs + count))
    desk.wait(lambda: desk.counts()["created"] - before["created"] >= count, _LIMIT_S, "launching all")
    found.way_in, found.way_in_s = count, time.monotonic() - began
    found.way_in_cpu_s = cpu_s(worker) - cpu_before
    found.way_in_calls = _grown(before["calls"], desk.counts()["calls"], 1 / count)
    found.way_in_pss_bytes = pss_bytes(worker)


def _grown(before: dict[str, int], after: dict[str, int], share: float) -> dict[str, float]:
    return {name: (count - before.get(name, 0)) * share for name, count in after.items() if count > before.get(name, 0)}


def _peak_bytes(worker: psutil.Process) -> int:
    for line in Path(f"/proc/{worker.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/{worker.pid}/status has no VmHWM; this measurement needs Linux")


def row(found: Found) -> list[str]:
    """Return the figures as the table shows them."""
    calls, stored = sum(found.rest_calls.values()), sum(found.rest_storage.values())
    ends = found.to_event_s
    return [
        f"{found.stage}, {found.jobs:,}",
        f"{found.take_over_s:.1f} ({found.take_over_cpu_s:.1f})",
        f"{found.rest_looks:.1f} × {found.rest_pages:.0f}",
        f"{calls:.0f}",
        f"{stored:.0f}",
        f"{found.rest_cpu_s:.1f}",
        f"{found.pss_bytes / 2**20:.0f}",
        f"{quantile(ends, 0.5):.1f} / {quantile(ends, 0.99):.1f}" if ends else "–",
        f"{found.way_in / found.way_in_s:.0f} ({1e3 * found.way_in_cpu_s / found.way_in:.0f})" if found.way_in else "–",
    ]


HEAD = [
    "worker, running jobs",
    "take-over s (CPU s)",
    "looks × pages",
    "jobs' API calls",
    "ledger calls",
    "CPU s/min",
    "PSS MiB",
    "end to event s, p50 / p99",
    "launched/s (CPU ms each)",
]
