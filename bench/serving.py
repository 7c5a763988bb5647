"""How quickly the prediction server starts and answers: `python bench/serving.py MODEL_DIRECTORY`.

One client on one kept-open connection, closed loop, so a time is what one caller waits: HTTP, JSON, checks and model.
"""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
BATCHES = ((1, 5_000), (64, 3_000), (1_024, 300))  # instances per request, requests


def start(model_directory: str) -> tuple[subprocess.Popen[str], int, float]:
    """Start a server; returns it, its port and the seconds until it was healthy."""
    began_at = time.perf_counter()
    environment = os.environ | {"AIP_STORAGE_URI": str(Path(model_directory).resolve()), "AIP_HTTP_PORT": "0"}
    server = subprocess.Popen(
        [sys.executable, "-m", "serving"], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )
    assert server.stderr is not None
    for line in server.stderr:
        if '"serving.listening"' in line:
            port = int(json.loads(line)["port"])
            break
    else:
        sys.exit(f"the server did not start: {server.wait()}")
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/health")
        status = connection.getresponse().status
        connection.close()
        if status == 200:
            return server, port, time.perf_counter() - began_at


def measure(port: int, instance: dict[str, object], rows: int, requests: int) -> list[float]:
    """Seconds of each request, sorted."""
    body = json.dumps({"instances": [instance] * rows})
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    durations = []
    for _ in range(requests):
        began_at = time.perf_counter()
        connection.request("POST", "/predict", body)
        answer = connection.getresponse()
        predictions = json.loads(answer.read())["predictions"]
        durations.append(time.perf_counter() - began_at)
        assert len(predictions) == rows
    connection.close()
    return sorted(durations)


def main(model_directory: str) -> None:
    instance = json.loads((Path(model_directory) / "instance_schema.json").read_text())["example"]
    server, port, start_s = start(model_directory)
    try:
        print(f"start to healthy {start_s:.2f} s; {psutil.Process(server.pid).memory_info().rss / 2**20:.0f} MiB")
        print("rows a request   p50 us   p99 us     rows/s")
        for rows, requests in BATCHES:
            durations = measure(port, instance, rows, requests)
            p50, p99 = (durations[int(requests * share)] * 1e6 for share in (0.5, 0.99))
            print(f"{rows:14,} {p50:8,.0f} {p99:8,.0f} {rows * requests / sum(durations):10,.0f}")
    finally:
        server.terminate()
        server.wait(10)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python bench/serving.py MODEL_DIRECTORY (what a training job wrote)")
    main(sys.argv[1])
