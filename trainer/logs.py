"""One JSON object per line on stderr: time, level, a fixed action and its fields."""

import json
import logging
import os
import sys
from datetime import UTC, datetime

_LOGGER = logging.getLogger("trainer")


class JsonFormatter(logging.Formatter):
    """Format a record as one line of JSON; the message is the action, `fields` the rest.

    `severity` repeats the level under the name that Cloud Logging reads.
    """

    def __init__(self, constant_fields: dict[str, str]) -> None:
        super().__init__()
        self._constant_fields = constant_fields

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "severity": record.levelname,
            "action": record.getMessage(),
            **self._constant_fields,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure() -> None:
    """Send this package's lines to stderr, once per process."""
    job_id = os.environ.get("CLOUD_ML_JOB_ID")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter({"stage": "train"} | ({"job_id": job_id} if job_id else {})))
    _LOGGER.handlers = [handler]
    _LOGGER.propagate = False
    _LOGGER.setLevel(logging.INFO)


def info(action: str, **fields: object) -> None:
    """A change of state."""
    _LOGGER.info(action, extra={"fields": fields})


def warning(action: str, **fields: object) -> None:
    """Something a reader should know, which does not stop the job."""
    _LOGGER.warning(action, extra={"fields": fields})


def error(action: str, *, with_traceback: bool = False, **fields: object) -> None:
    """The job stops here, and a person should look."""
    _LOGGER.error(action, exc_info=with_traceback, extra={"fields": fields})
