"""One JSON object per line on stderr: time, severity, a fixed `action`, and the fields that tell which run and job.

No values are pasted into the sentence, no payloads and no secrets are logged. DEBUG for each poll, INFO for a change of
state, WARNING when we shall try again, ERROR when a person should look. Google Cloud reads `severity` and `time`.
"""

import json
import logging
import sys
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any

import structlog

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

_process_fields: dict[str, Any] = {}


def configure(level: str = "info", **bound: Any) -> None:
    """Set up this process's log; the `bound` fields (worker, say) stand on every line."""
    structlog.configure(
        processors=[
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            _severity,
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("action"),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        # One write for a line and its end: lines of other threads and of the libraries must not come in between.
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    _process_fields.clear()
    _process_fields.update(bound)
    # Google's clients log through logging; what they warn of belongs on the same stream, in the same form.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LibraryFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    # google.api_core cuts its loggers off from the root when the first client is made, so they get the handler themselves.
    of_google = logging.getLogger("google")
    of_google.handlers[:] = [handler]
    of_google.propagate = False
    # It warns at every token that timeouts are set on the transport; they are (google_rest).
    logging.getLogger("google_auth_httplib2").setLevel(logging.ERROR)


def logger(**fields: Any) -> Any:
    """Return a logger with the process's fields and these."""
    return structlog.get_logger(**_process_fields, **fields)


class _LibraryFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        row = {
            **_process_fields,
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "severity": record.levelname,
            "action": "library",
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            row["exception"] = self.formatException(record.exc_info)
        return json.dumps(row, default=str)


def _severity(_logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event["severity"] = "ERROR" if method == "exception" else method.upper()
    return event
