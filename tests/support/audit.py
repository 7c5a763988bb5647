"""The audit of a house, as a test ends with it: everything that was published is accounted for, and nothing is in flight."""

import json
import subprocess
import sys
from typing import Any

from tests.support.house import ROOT, House


def settled_audit(home: House, wait_s: float = 60) -> dict[str, Any]:
    """Run `baton audit` until nothing is in flight; return its report.

    Raises:
        AssertionError: an event is missing, or something is in flight still.
    """
    done = subprocess.run(
        [sys.executable, "-m", "baton", "audit", "--wait", str(wait_s), "--json"],
        cwd=ROOT,
        env=home.env(),
        capture_output=True,
        text=True,
        timeout=wait_s + 60,
    )
    assert done.returncode in (0, 1), done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["balanced"], json.dumps(report, indent=1)
    assert report["settled"], json.dumps(report, indent=1)
    return report
