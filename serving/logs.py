"""One JSON object per line on stderr: time, level, a fixed action and its fields."""

import json
import logging
import os
import sys
from datetime import UTC, datetime

_LOGGER = logging.getLogger("serving")


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
    """Send this package's lines, and the HTTP server's warnings, to stderr; once per process."""
    deployed_model_id = os.environ.get("AIP_DEPLOYED_MODEL_ID")
    constant = {"deployed_model_id": deployed_model_id} if deployed_model_id else {}
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter({"stage": "serving"} | constant))
    for name, level in (("serving", logging.INFO), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(level)


def info(action: str, **fields: object) -> None:
    """A change of state."""
    _LOGGER.info(action, extra={"fields": fields})


def error(action: str, *, cause: BaseException | None = None, **fields: object) -> None:
    """A person should look."""
    _LOGGER.error(action, exc_info=cause, extra={"fields": fields})
