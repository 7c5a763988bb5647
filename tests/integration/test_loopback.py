"""In local mode nothing of ours opens a socket that is not loopback: workers, local cloud and the jobs that they run."""

from datetime import UTC, datetime
from pathlib import Path

import psutil

from messages import DataReady, Envelope, encode
from tests.support.house import LOCAL_CLOUD, WORKERS, House, house
from tests.support.loopback_only import NotLoopback, non_loopback_sockets
from tests.support.waiting import wait_until


def outside(home: House) -> list[str]:
    """Return the sockets of the house's processes and their children that leave the machine, or could be reached."""
    found = []
    for name in (*WORKERS, LOCAL_CLOUD):
        process = psutil.Process(home.processes[name].pid)
        for one in (process, *process.children(recursive=True)):
            try:
                found += non_loopback_sockets(one.pid)
            except psutil.NoSuchProcess:
                continue  # a job that has just ended
    return found


def test_a_whole_run_stays_on_loopback(tmp_path: Path) -> None:
    """While a run goes from its event to a served model, no name but localhost is looked up and no other address used."""
    with house(tmp_path) as home:
        home.start()
        event = DataReady(pipeline="quick", source="gs://data/x.csv")
        home.publish("data-ready", *encode(Envelope("e", "loopback", "//test", datetime.now(UTC), event)))

        def served() -> bool:
            assert outside(home) == []
            return home.state("loopback", "deploy") == "published"

        wait_until(served, 60, f"the run served\n{home.log('deploy')}")
        record = home.record("loopback", "deploy")
        assert record is not None
        assert record["outcome"] == "succeeded"
        for stage in WORKERS:
            assert NotLoopback.__name__ not in (tmp_path / f"{stage}.log").read_text()
