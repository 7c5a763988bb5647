"""One JSON object per line on stderr: time, level, a fixed `action`, and the fields that tell which run and job.

No values are pasted into the sentence, no payloads and no secrets are logged. DEBUG for each poll, INFO for a change of
state, WARNING when we shall try again, ERROR when a person should look.
"""

import json
import logging
import sys
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any

import structlog

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(level: str = "info", **bound: Any) -> None:
    """Set up this process's log; `bound` fields (worker, stage) stand on every line.

    Google Cloud reads `severity`, `message` and `time` of a JSON line, hence these names.
    """
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            _severity,
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("action"),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.clear_contextvars()
    global _bound
    _bound = dict(bound)
    # Google's clients log through logging; what they warn of belongs on the same stream, in the same form.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Library())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    # It warns at each refresh of a token that it cannot change a time-out, which `google_rest` sets itself.
    logging.getLogger("google_auth_httplib2").setLevel(logging.ERROR)


class _Library(logging.Formatter):
    """A library's record as one JSON object, like our own."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            **_bound,
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "severity": record.levelname,
            "action": "library",
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


_bound: dict[str, Any] = {}


def logger(**fields: Any) -> Any:
    """Return a logger with the process's fields and these."""
    return structlog.get_logger(**_bound, **fields)


def _severity(_logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event["severity"] = method.upper()
    return event
