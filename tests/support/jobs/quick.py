"""Quick stand-ins for the jobs in tests of the chain: the real contracts, with next to no work in them.

`quick.py prepare …` writes a manifest, `quick.py train …` metrics and a smoke sample, `quick.py serve` answers predictions.
Only the standard library, so that a job starts in milliseconds. QUICK_JOB_S is how long a job takes; one whose source says
`slow`, or that trains on a million examples, takes ten minutes: it is there to be stopped. A source that says `missing`,
`refused`, `flaky` or `hollow` fails each time, fails for good, fails the first time, succeeds without a manifest.
"""

import json
import os
import signal
import sys
import time
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PREDICTION = 7.5
SLOW_EXAMPLES = 1_000_000
_SLOW_S = 600.0


def flags() -> dict[str, str]:
    """Return --key=value arguments."""
    return dict(a.removeprefix("--").split("=", 1) for a in sys.argv[2:] if a.startswith("--") and "=" in a)


def upload(uri: str, body: object) -> None:
    """Write a JSON object to gs://bucket/name through the JSON API."""
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    address = os.environ["STORAGE_EMULATOR_HOST"]
    url = f"{address}/upload/storage/v1/b/{bucket}/o?uploadType=media&name={urllib.parse.quote(name, safe='')}"
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    for wait_s in (0.1, 0.2, 0.5, 1, 2, 4, 0):
        try:
            urllib.request.urlopen(request, timeout=10).read()
            return
        except OSError:
            if not wait_s:
                raise
            time.sleep(wait_s)  # the store may be restarting: jobs outlive it, like real ones


def prepare() -> None:
    given = flags()
    time.sleep(_SLOW_S if "slow" in given["source"] else float(os.environ.get("QUICK_JOB_S", "0.3")))
    source, output = given["source"], given["output"]
    if "refused" in source:
        print(f"source {source} is not for us", file=sys.stderr)
        sys.exit(2)
    if "missing" in source or ("flaky" in source and output.endswith("-a1")):
        sys.exit(f"source {source} is not there")
    if "hollow" in source:
        return
    body = {"train": {"rows": 8}, "eval": {"rows": 2}, "rejects": {"total": 0}, "digest": "sha256:0"}
    upload(f"{output}/manifest.json", body)


def train() -> None:
    model = os.environ["AIP_MODEL_DIR"].rstrip("/")
    is_slow = int(flags().get("num-train-examples", "0")) >= SLOW_EXAMPLES
    time.sleep(_SLOW_S if is_slow else float(os.environ.get("QUICK_JOB_S", "0.3")))
    upload(f"{model}/smoke.json", {"instances": [{"x": 1}], "predictions": [PREDICTION]})
    upload(f"{model}/metrics.json", {"rmse_lb": 1.0})


class Predictor(BaseHTTPRequestHandler):
    """Health and predictions."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer({})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer({"predictions": [PREDICTION for _ in body["instances"]]})

    def answer(self, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        print(format % args, flush=True)


def serve() -> None:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["AIP_HTTP_PORT"])), Predictor).serve_forever()


if __name__ == "__main__":
    {"prepare": prepare, "train": train, "serve": serve}[sys.argv[1]]()
