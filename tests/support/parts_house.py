"""A house whose local cloud is four processes, each behind a line that can go bad, with two workers to each stage.

So each part can be killed, frozen or cut off alone, as zones and services of a real cloud are.
"""

import json
import urllib.request
from pathlib import Path
from typing import Any

from tests.support.bad_line import BadLine
from tests.support.house import PARTS, PROJECT, READY_S, WORKERS, House
from tests.support.loop_thread import LoopThread
from tests.support.waiting import wait_until

COPIES = 2  # workers of each stage
_JOBS_AT_ONCE = 8
_DOORS = {
    "metadata": ("GCE_METADATA_HOST", "GCE_METADATA_IP"),
    "pubsub": ("PUBSUB_EMULATOR_HOST",),
    "storage": ("STORAGE_EMULATOR_HOST",),
    "jobs": ("BATON_DATAFLOW_ENDPOINT", "BATON_AIPLATFORM_ENDPOINT", "BATON_LOGGING_ENDPOINT"),
}
_URLS = ("storage", "jobs")  # their variables begin with http://
PIPELINE = """name = "{name}"
[trigger]
prefix = "incoming/{name}/"
[preprocess]
template = "templates/quick.json"
attempts = 3
[train]
image = "quick-trainer"
attempts = 3
[deploy]
image = "quick-serving"
endpoint = "{name}"
attempts = 3
"""


class PartsHouse(House):
    """See the module's text.

    Args:
        loop: where the lines run.
        endpoints: how many pipelines there are, each with an endpoint of its own: rollouts take turns at one.
        unkind_seed: the broker delivers twice, out of order and late, loses acks and breaks streams.
    """

    def __init__(self, folder: Path, loop: LoopThread, *, endpoints: int = 1, unkind_seed: int | None = None) -> None:
        super().__init__(folder)
        self.pipelines = [f"quick-{number}" for number in range(endpoints)]
        for name in self.pipelines:
            (folder / "pipelines" / f"{name}.toml").write_text(PIPELINE.format(name=name))
        self._loop = loop
        self._unkind = [] if unkind_seed is None else [f"--unkind={unkind_seed}"]
        self.lines: dict[str, BadLine] = {}
        self.direct: dict[str, str] = {}  # part -> HOST:PORT without the line
        self._log_from: dict[str, int] = {}  # part -> where in its log its present process begins

    @property
    def workers(self) -> list[str]:
        """The names of the workers' processes: `train-0`, `train-1` …"""
        return [f"{stage}-{copy}" for stage in WORKERS for copy in range(COPIES)]

    def start_cloud(self) -> None:
        """Start the parts one after the other; each is told the lines to those before it."""
        self.environment = self._hidden()
        for part in PARTS:
            self.start_again(part)
            self.direct[part] = wait_until(
                lambda part=part: self.told(part), READY_S, f"{part} ready\n{self.log(part)}"
            )  # type: ignore[misc]
            host, port = self.direct[part].split(":")
            line = self.lines[part] = BadLine(host, int(port))
            address = f"127.0.0.1:{self._loop.start(line)}"
            url = f"http://{address}" if part in _URLS else address
            self.environment |= dict.fromkeys(_DOORS[part], url)

    def start(self) -> None:
        """Start everything, with topics, subscriptions and buckets made."""
        self.start_cloud()
        self.set_up()
        for name in self.workers:
            self.start_again(name)

    def start_again(self, name: str) -> None:
        """Start a worker or a part, again or for the first time; a part comes back where it was."""
        if name not in PARTS:
            self.start_worker(name.rpartition("-")[0], name)
            return
        options = {
            "pubsub": self._unkind,
            "jobs": ["--images", str(self.folder / "images.toml"), f"--max-parallel-jobs={_JOBS_AT_ONCE}"],
        }
        log = self.folder / f"{name}.log"
        self._log_from[name] = log.stat().st_size if log.exists() else 0
        arguments = [f"localcloud.{name}", "--data-dir", str(self.folder / "cloud" / name), *options.get(name, [])]
        self.spawn(name, arguments)

    def told(self, part: str) -> str:
        """Return the address that a part's present process has printed, or "" while it starts."""
        with (self.folder / f"{part}.log").open(errors="replace") as log:
            log.seek(self._log_from[part])
            told = [line.partition("=") for line in log if line.partition("=")[0] in _DOORS[part]]
        return told[0][2].strip().removeprefix("http://") if told else ""

    def cut(self, part: str) -> None:
        """Reset every connection to a part."""
        self._loop.run(self.lines[part].cut())

    def faults(self, part: str, rules: list[dict[str, Any]]) -> None:
        """Put fault rules in force at a part, in place of those that are."""
        url, body = f"http://{self.direct[part]}/-/faults", json.dumps({"rules": rules}).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="PUT")
        with urllib.request.urlopen(request, timeout=5) as answer:
            assert answer.status == 200, answer.status

    def _hidden(self) -> dict[str, str]:
        """Return what keeps a process of this house away from a person's own cloud, as `endpoints.json` does."""
        hidden = self.folder / "empty-gcloud-config"
        hidden.mkdir(exist_ok=True)
        return {"CLOUDSDK_CONFIG": str(hidden), "NO_PROXY": "127.0.0.1,localhost", "GOOGLE_CLOUD_PROJECT": PROJECT}
