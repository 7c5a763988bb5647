"""Measures Baton: the same figures, marks and pauses as the peers' harness (`harness.py` beside their scripts)."""

import os
import random
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import psutil

from bench.overhead.figures import BATON, Row, stats
from bench.overhead.system import WORKERS, System

FIGURES = ("cold", "idle", "latency", "throughput")
_JITTER_S = 0.3  # the longest random pause before a run
_SETTLE_S = 10.0  # before the idle figures
_IDLE_SAMPLES, _IDLE_EVERY_S = 5, 2.0
_RUN_LIMIT_S = 180.0
_LOOK_S = 0.02
_BURSTS, _BURST_IS_LONG_S = 5, 20.0
_TRIGGERS_AT_ONCE = 8
_WARM_RUNS = 3  # the first ones make connections, and the workers learn how long the jobs take


class DidNotFinish(RuntimeError):
    """A run took too long; names it and says how far it came."""


def measure(figures: Sequence[str], n: int, runs: int, limit_s: float, sleeps_ms: Sequence[int]) -> list[Row]:
    """Start Baton in a folder of its own, measure, end it.

    Args:
        n: runs for each latency figure.
        runs: how many at once for the throughput.
        limit_s: how long such a burst may take.
    """
    with tempfile.TemporaryDirectory(prefix="baton-overhead-") as folder:
        began_s = time.monotonic()
        with System(Path(folder), {0, *sleeps_ms}) as system:
            meter = _Meter(system)
            rows = [meter.cold(began_s)] if "cold" in figures else []
            meter.warm()
            if "idle" in figures:
                rows += meter.idle()
            if "latency" in figures:
                for sleep_ms in sleeps_ms:
                    rows += meter.latency(n, sleep_ms)
            if "throughput" in figures:
                rows += meter.throughput(runs, limit_s)
    return rows


class _Meter:
    def __init__(self, system: System) -> None:
        self._system = system
        self._dice = random.Random(7)

    def cold(self, began_s: float) -> Row:
        """From nothing but files to the end of the first run's last step, the set-up included."""
        self._one("cold", 0)
        ended_s = self._system.seen()["cold"]["Cend"]
        return Row(BATON, version(BATON), "cold_start", round(ended_s - began_s, 4), "s")

    def warm(self) -> None:
        for number in range(_WARM_RUNS):
            self._one(f"warm-{number}", 0)

    def idle(self) -> list[Row]:
        """Memory and processor time of all standing processes, with nothing to do."""
        time.sleep(_SETTLE_S)
        rss, pss, count = [], [], []
        before_s, began_s = self._cpu_s(), time.monotonic()
        for _ in range(_IDLE_SAMPLES):
            memory = [process.memory_full_info() for process in self._processes()]
            rss.append(sum(m.rss for m in memory) / 2**20)
            pss.append(sum(m.pss for m in memory) / 2**20)
            count.append(len(memory))
            time.sleep(_IDLE_EVERY_S)
        share = (self._cpu_s() - before_s) / (time.monotonic() - began_s)
        return [
            *self._rows("idle_rss", rss, "MB"),
            *self._rows("idle_pss", pss, "MB"),
            *self._rows("idle_processes", count, "processes"),
            *self._rows("idle_cpu", [100 * share], "% of one core")[:1],
        ]

    def latency(self, n: int, sleep_ms: int) -> list[Row]:
        """Single runs, each after a random pause."""
        got = []
        before_s = self._cpu_s()
        for number in range(n):
            time.sleep(self._dice.uniform(0, _JITTER_S))
            got.append(self._one(f"lat-{sleep_ms}ms-{number}", sleep_ms))
        cpu = (self._cpu_s() - before_s) / n
        rows = [
            row
            for figure in ("latency", "start", "handoff")
            for row in self._rows(f"{figure}_{sleep_ms}ms", [g[figure] for g in got], "s")
        ]
        return [*rows, Row(BATON, version(BATON), f"cpu_{sleep_ms}ms", round(cpu, 4), "s of a processor a run", n)]

    def throughput(self, runs: int, limit_s: float) -> list[Row]:
        """All runs at once, again while a burst stays short."""
        rates: list[float] = []
        done: list[int] = []
        while len(rates) < _BURSTS:
            names = [f"burst{len(rates)}-{number}" for number in range(runs)]
            began_s = time.monotonic()
            with ThreadPoolExecutor(_TRIGGERS_AT_ONCE) as pool:
                list(pool.map(self._system.trigger, names))
            seen = self._wait(names, began_s + limit_s)
            ends_s = [seen[name]["Cend"] for name in names if "Cend" in seen.get(name, ())]
            last_s = max(ends_s) if len(ends_s) == runs else time.monotonic()
            done.append(len(ends_s))
            rates.append(len(ends_s) / (last_s - began_s))
            if time.monotonic() - began_s > _BURST_IS_LONG_S:
                break
        finished = Row(BATON, version(BATON), "throughput_finished", min(done), f"of {runs} runs", len(done))
        return [*self._rows("throughput", rates, "runs/s"), finished]

    def _one(self, run: str, sleep_ms: int) -> dict[str, float]:
        began_s = time.monotonic()
        self._system.trigger(run, sleep_ms)
        got = self._wait([run], began_s + _RUN_LIMIT_S).get(run, {})
        if "Cend" not in got:
            raise DidNotFinish(f"run {run} did not finish in {_RUN_LIMIT_S:g} s: {got}")
        return {
            "latency": got["Cend"] - began_s,
            "start": got["Astart"] - began_s,
            "handoff": got["Bstart"] - got["Aend"],
        }

    def _wait(self, names: Sequence[str], until_s: float) -> dict[str, dict[str, float]]:
        while True:
            seen = self._system.seen()
            if all("Cend" in seen.get(name, ()) for name in names) or time.monotonic() > until_s:
                return seen
            time.sleep(_LOOK_S)

    def _processes(self) -> list[psutil.Process]:
        standing = [psutil.Process(process.pid) for process in self._system.processes.values()]
        assert len(standing) == 1 + len(WORKERS)
        return [*standing, *(child for process in standing for child in process.children(recursive=True))]

    def _cpu_s(self) -> float:
        """Of all processes, the ended ones included: the local cloud has waited for every job."""
        times = [psutil.Process(process.pid).cpu_times() for process in self._system.processes.values()]
        return float(sum(t.user + t.system + t.children_user + t.children_system for t in times))

    def _rows(self, figure: str, values: Sequence[float], unit: str) -> list[Row]:
        return stats(BATON, version(BATON), figure, values, unit)


def environment() -> dict[str, object]:
    """What the figures depend on."""
    return {
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
