"""One JSON object per line on stderr: time, level, a fixed `action`, and the fields that tell which run and job.

No values are pasted into the sentence, no payloads and no secrets are logged. DEBUG for each poll, INFO for a change of
state, WARNING when we shall try again, ERROR when a person should look.
"""

import logging
import sys
from collections.abc import MutableMapping
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
    # Google's clients log through logging; what they warn of belongs on the same stream.
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format='{"severity":"%(levelname)s","action":"library",'
                        '"logger":"%(name)s","message":%(message)r}', force=True)  # fmt: skip


_bound: dict[str, Any] = {}


def logger(**fields: Any) -> Any:
    """Return a logger with the process's fields and these."""
    return structlog.get_logger(**_bound, **fields)


def _severity(_logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event["severity"] = method.upper()
    return event
