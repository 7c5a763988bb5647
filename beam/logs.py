"""Logs of a job: one JSON object per line on stderr, Beam's own lines among them."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

LOGGER_NAME = "baton.beam"
STAGE = "preprocess"


def configure(**bound: str) -> logging.Logger:
    """Send all logs to stderr as JSON lines that carry the bound fields; return our logger.

    Beam tells every step of every stage at INFO, so from others only warnings pass.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter({"stage": STAGE} | bound))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    # A DoFn's error is raised to us as well, and told once, with or without its traceback.
    logging.getLogger("apache_beam.runners.common").setLevel(logging.CRITICAL)
    logger = logging.getLogger(LOGGER_NAME)
    logger.setLevel(logging.INFO)
    return logger


def fields(action: str, **values: Any) -> dict[str, Any]:
    """Return the `extra` of a log call: the fixed action and the values, which never go into the sentence."""
    return {"baton": {"action": action} | values}


class _JsonFormatter(logging.Formatter):
    def __init__(self, bound: dict[str, str]) -> None:
        super().__init__()
        self._bound = bound

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "action": record.name,
            **self._bound,
            **getattr(record, "baton", {}),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
