"""`python -m beam.babyweight`, with everything it does: planning, graph, rejects, statistics, digest and manifest."""

import json
from pathlib import Path

from beam import babyweight


def work(source: str, output: str) -> int:
    """Preprocess; return the rows written."""
    exit_code = babyweight.main([f"--source={source}", f"--output={output}", "--runner=FnApiRunner"])
    if exit_code:
        raise SystemExit(exit_code)
    manifest = json.loads((Path(output) / "manifest.json").read_text())
    return int(manifest["train"]["rows"] + manifest["eval"]["rows"])
