"""A job that does nothing: the process that stands for a container in the chain. `job.py STEP …` with the image's arguments.

It notes when it begins and when it ends, in the peers' form (`RUN STEP EDGE SECONDS` of CLOCK_MONOTONIC, which all
processes of a machine share), sleeps in between if the pipeline says so, and then leaves what the stage's contract asks
for: a manifest, or metrics. What takes long to import is left out, as it is not overhead of the chain: the modules are those
inside the interpreter (`import socket` alone takes as long as the start of Python without it, `import os` a seventh of it).
"""

import _socket
import posix
import sys
import time

_MANIFEST = b'{"train": {"rows": 8}, "eval": {"rows": 2}, "rejects": {"total": 0}, "digest": "sha256:0"}'
_METRICS = b'{"rmse_lb": 1.0}'
_OUTPUTS = {"A": ("manifest.json", _MANIFEST), "B": ("metrics.json", _METRICS), "C": ("metrics.json", _METRICS)}
_TIMEOUT_S = 30.0


def mark(run: str, step: str, edge: str) -> None:
    """Append a line to the file of marks, in one write."""
    line = f"{run} {step} {edge} {time.monotonic():.6f}\n".encode()
    file = posix.open(posix.environ[b"BATON_BENCH_MARKS"], posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT, 0o644)
    try:
        posix.write(file, line)
    finally:
        posix.close(file)


def upload(uri: str, body: bytes) -> None:
    """Write `gs://bucket/name` by one request of the JSON API; exit 1 where it is refused."""
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    host, _, port = posix.environ[b"STORAGE_EMULATOR_HOST"].decode().removeprefix("http://").partition(":")
    path = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={name.replace('/', '%2F')}"
    head = f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
    connection = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    connection.settimeout(_TIMEOUT_S)
    connection.connect((host, int(port)))
    connection.sendall(request)
    answer = connection.recv(4096)
    connection.close()
    if not answer.startswith(b"HTTP/1.1 200 "):
        sys.exit(f"{uri} could not be written: {answer[:500]!r}")


def main() -> None:
    """Note the beginning, sleep, note the end, leave the output."""
    step, *rest = sys.argv[1:]
    flags = dict(argument.removeprefix("--").partition("=")[::2] for argument in rest)
    # Only Dataflow's parameters name the folder of the output; Vertex AI sets a variable.
    folder = flags["output"] if "output" in flags else posix.environ[b"AIP_MODEL_DIR"].decode().rstrip("/")
    run = folder.split("/")[4]  # gs://BUCKET/artifacts/RUN/STAGE…
    mark(run, step, "start")
    if seconds := float(flags.get("seconds", 0)):
        time.sleep(seconds)
    mark(run, step, "end")
    name, body = _OUTPUTS[step]
    upload(f"{folder}/{name}", body)


if __name__ == "__main__":
    main()
    posix._exit(0)  # nothing is open, and taking the interpreter down in good order is no work of the job's
