"""What a backfill runs: its sources, each with the id of its run. The same sources always give the same runs.

    backfills/<id>/plan.json        pipeline, parameters and sources; sources may be added, nothing else changes
    backfills/<id>/progress.json    who drives it, and which runs have ended; changed by compare-and-set

Which runs are in flight is not written down at all: the ledger knows. So nothing can be forgotten by a crash, and telling an
event again that was told already is one event.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from baton.errors import Refused

_ID = re.compile(r"^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$")
_STEM = 20  # characters of the source's name in the run id: with id and digest it stays under 63
FORMAT = 1


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class Plan(_Frozen):
    """See the module's text."""

    format: int = FORMAT
    id: str
    pipeline: str
    params: dict[str, Any] = {}
    sources: tuple[str, ...]
    created: datetime
    by: str = ""

    def items(self) -> dict[str, str]:
        """Return run id -> source, in the order of the sources."""
        return {run_id(self.id, source): source for source in self.sources}


class Progress(_Frozen):
    """How far it is.

    Args:
        driver: who starts its runs now; "" where nobody does.
        beat: when the driver last said so, aware.
        ended: run id of the plan -> how it ended: succeeded, failed, cancelled, dead-lettered.
        again: run id of the plan -> the newest retry of it.
    """

    format: int = FORMAT
    driver: str = ""
    beat: datetime
    ended: dict[str, str] = {}
    again: dict[str, str] = {}


def run_id(backfill: str, source: str) -> str:
    """Return the id of the run that reads `source` in this backfill: the same whenever it is asked."""
    stem = re.sub(r"[^a-z0-9]+", "-", source.rsplit("/", 1)[-1].lower()).strip("-")[:_STEM].strip("-")
    digest = hashlib.sha256(f"{backfill}\n{source}".encode()).hexdigest()[:10]
    return "-".join(filter(None, (backfill, stem, digest)))


def default_id(pipeline: str, params: Mapping[str, Any], sources: Sequence[str]) -> str:
    """Return an id that follows from what is to be done: the same command again resumes."""
    said = json.dumps([pipeline, dict(params), sorted(sources)], sort_keys=True)
    return f"bf-{hashlib.sha256(said.encode()).hexdigest()[:10]}"


def check_id(backfill: str) -> str:
    """Return the id.

    Raises:
        Refused: it cannot become a part of run ids.
    """
    if not _ID.match(backfill):
        raise Refused(
            f"{backfill!r} can name no backfill",
            "give 1 to 30 lower-case letters, digits and inner hyphens, beginning with a letter",
        )
    return backfill


def joined(there: Plan, wanted: Plan) -> Plan:
    """Return the plan that is there with the sources that are new.

    Raises:
        Refused: it is of another pipeline or has other parameters.
    """
    for what in ("pipeline", "params"):
        before, now = getattr(there, what), getattr(wanted, what)
        if before != now:
            raise Refused(
                f"backfill {there.id} is there already, with {what} {before!r}, not {now!r}", "give another --id"
            )
    return there.model_copy(update={"sources": tuple(dict.fromkeys([*there.sources, *wanted.sources]))})
