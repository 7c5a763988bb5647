"""The labels that jobs and model versions carry, and are found by again."""

import hashlib

from workers.settings import Settings
from workers.stage import Context

LEDGER = "baton-ledger"
STAGE = "baton-stage"
_LONGEST = 63  # of a label's value: lower case, digits, hyphen and underscore


def job_labels(context: Context, settings: Settings) -> dict[str, str]:
    """Return the labels of this attempt, with the ledger it belongs to: two of them may share a project."""
    return context.labels | {LEDGER: ledger_label(settings)}


def ledger_label(settings: Settings) -> str:
    """Return the name of the ledger's bucket as a label's value."""
    text = settings.bucket.replace(".", "_")
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
