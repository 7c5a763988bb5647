"""Where a run's time went: of each stage, how long it waited, launched, ran, and wrapped up.

| part | from | to |
|---|---|---|
| waiting | its event published | claimed by a worker |
| launching | claimed, or an attempt failed | the job accepted by its provider |
| running | the job accepted | seen to have ended |
| finishing | seen to have ended | the next event published |
"""

from dataclasses import dataclass
from datetime import datetime

from baton.runs import Run, StageView

PARTS = ("waiting", "launching", "running", "finishing")
_PART_OF_STATE = {"claimed": "launching", "launching": "launching", "running": "running", "finished": "finishing"}


@dataclass(frozen=True, slots=True)
class StageTime:
    """Where a stage's time went, in seconds."""

    stage: str
    waiting: float = 0.0
    launching: float = 0.0
    running: float = 0.0
    finishing: float = 0.0

    @property
    def total(self) -> float:
        return self.waiting + self.launching + self.running + self.finishing


def stage_times(run: Run, now: datetime) -> list[StageTime]:
    """Return where the time went in every stage that has begun."""
    return [_stage_time(stage, now) for stage in run.stages if stage.has_begun]


def _stage_time(stage: StageView, now: datetime) -> StageTime:
    spent = dict.fromkeys(PARTS, 0.0)
    if stage.triggered is not None and stage.started is not None:
        # Two machines' clocks: the event may seem to come from the future.
        spent["waiting"] = max(0.0, (stage.started - stage.triggered).total_seconds())
    ends = [step.time for step in stage.history[1:]]
    if stage.state != "published":
        ends.append(now)
    for step, end in zip(stage.history, ends, strict=False):
        part = _PART_OF_STATE.get(step.state)
        if part:
            spent[part] += max(0.0, (end - step.time).total_seconds())
    return StageTime(stage.name, **spent)
