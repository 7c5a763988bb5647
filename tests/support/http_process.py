"""The prediction server as a real process on a free port."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx

from tests.support.training import json_lines
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]


@dataclass
class ServingProcess:
    """One running server; `log` grows while it runs."""

    process: subprocess.Popen[str]
    log: list[str] = field(default_factory=list)

    def lines(self, action: str) -> list[dict[str, Any]]:
        return [line for line in json_lines("\n".join(self.log)) if line["action"] == action]

    @property
    def url(self) -> str:
        listening = self.lines("serving.listening")[0]
        return f"http://{listening['host']}:{listening['port']}"

    @cached_property
    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30)

    def predict(self, instances: list[dict[str, Any]]) -> httpx.Response:
        return self.client.post("/predict", json={"instances": instances})

    def is_healthy(self) -> bool:
        return bool(self.lines("serving.listening")) and self.client.get("/health").status_code == 200


def start_serving(storage_uri: str, extra: Mapping[str, str] | None = None) -> ServingProcess:
    """Start `python -m serving` as the jobs service does, on port 0."""
    environment = os.environ | {"AIP_STORAGE_URI": storage_uri, "AIP_HTTP_PORT": "0"} | dict(extra or {})
    process = subprocess.Popen(
        [sys.executable, "-m", "serving"], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )
    serving = ServingProcess(process)

    def read() -> None:
        assert process.stderr is not None
        with process.stderr as stream:
            for line in stream:
                serving.log.append(line.rstrip("\n"))

    threading.Thread(target=read, daemon=True).start()
    return serving


@contextmanager
def serving_process(storage_uri: str, extra: Mapping[str, str] | None = None) -> Iterator[ServingProcess]:
    """A server that is healthy inside the context and gone after it."""
    serving = start_serving(storage_uri, extra)
    try:
        wait_until(lambda: serving.process.poll() is not None or serving.is_healthy(), 60, f"server up: {serving.log}")
        assert serving.process.poll() is None, serving.log
        yield serving
    finally:
        if "client" in vars(serving):
            serving.client.close()
        serving.process.kill()
        serving.process.wait(10)


def random_instances(schema_path: Path, rows: int, seed: int) -> list[dict[str, Any]]:
    """Valid instances over the schema's whole range, every category included."""
    import numpy as np

    properties = json.loads(schema_path.read_text())["properties"]
    print(f"instances from seed {seed}")
    random = np.random.default_rng(seed)
    columns = {
        name: (
            random.choice(declared["enum"], rows).tolist()
            if declared["type"] == "string"
            else random.uniform(declared["minimum"], declared["maximum"], rows).round(1).tolist()
        )
        for name, declared in properties.items()
    }
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
