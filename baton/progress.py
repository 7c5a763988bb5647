"""The live view of runs: bars, job states and elapsed times in a terminal; one line for each change elsewhere."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from baton.render import plain, seconds
from baton.runs import RunState, StageView
from baton.tracking import Progress, Snapshot

_MARKS = {"succeeded": ("✔", "green"), "failed": ("✘", "bold red"), "cancelled": ("■", "yellow")}
_STATE_STYLES = {
    RunState.SUCCEEDED: "bold green",
    RunState.FAILED: "bold red",
    RunState.CANCELLED: "yellow",
    RunState.RUNNING: "bold",
    RunState.WAITING: "dim",
}
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_BAR_WIDTH = 24


def live_view(titled: Sequence[tuple[str, Snapshot]], now: datetime) -> RenderableType:
    """Return the whole picture of some runs; drawn anew for each look.

    Args:
        titled: a title for each run, such as how it was started.
    """
    parts: list[RenderableType] = []
    for title, snapshot in titled:
        parts += [_head(title, snapshot, now), _stages(snapshot, now)]
    return Group(*parts)


def changes(before: Snapshot | None, after: Snapshot) -> Iterable[str]:
    """Yield one line for each thing that a person would want to hear of since the last look."""
    run = after.run
    if before is None and run.state is RunState.WAITING:
        yield f"{run.id}: waiting for a worker to claim it"
    for stage in run.stages:
        old = before.run.stage(stage.name) if before is not None else None
        line = _stage_words(stage, after.of(stage.name))
        if stage.has_begun and (old is None or line != _stage_words(old, before.of(stage.name))):  # type: ignore[union-attr]
            yield f"{run.id} {stage.name}: {line}"
    if (before is None or before.run.state != run.state) and run.state.is_final:
        yield f"{run.id}: {run.state.value}"


def _stage_words(stage: StageView, progress: Progress) -> str:
    if stage.has_ended:
        words = [stage.outcome, f"({stage.failure['reason']})" if stage.failure and stage.outcome == "failed" else ""]
    else:
        words = [stage.state, stage.phase if stage.name == "deploy" else "", progress.job_state]
        if progress.fraction is not None and stage.name != "deploy":
            words.append(f"{progress.fraction:.0%}")
    attempt = f"attempt {stage.attempt}" if stage.attempt > 1 else ""
    return " ".join(filter(None, [*words, attempt]))


def _head(title: str, snapshot: Snapshot, now: datetime) -> Text:
    run = snapshot.run
    took = f"  {seconds(run.elapsed_s(now))}" if run.started else ""
    return Text.assemble(
        (f"{title}  ", "bold"), (run.id, "underline"), "  ", (run.state.value, _STATE_STYLES[run.state]), (took, "dim")
    )


def _stages(snapshot: Snapshot, now: datetime) -> Table:
    run = snapshot.run
    # Expanded, so that a long word in the last column is cut there instead of squeezing the bars.
    table = Table(box=None, show_header=False, pad_edge=False, expand=True)
    table.add_column(width=1)
    table.add_column(width=11)
    table.add_column(width=_BAR_WIDTH)
    table.add_column(width=8, justify="right")
    table.add_column(ratio=1, overflow="ellipsis", no_wrap=True)
    for stage in run.stages:
        progress = snapshot.of(stage.name)
        elapsed = seconds(stage.elapsed_s(now)) if stage.has_begun else ""
        table.add_row(
            _mark(stage, now), stage.name, _bar(stage, progress, now), elapsed, plain(_words(stage, progress))
        )
    return table


def _words(stage: StageView, progress: Progress) -> str:
    if not stage.has_begun:
        return "waiting"
    if stage.failure and stage.outcome == "failed":
        return f"failed: {stage.failure['message']}"  # the reason's code is for logs, this for people
    detail = progress.detail if stage.name != "deploy" else ""
    return "  ".join(filter(None, [_stage_words(stage, progress), detail]))


def _mark(stage: StageView, now: datetime) -> Text:
    if stage.has_ended:
        mark, style = _MARKS.get(stage.outcome, ("?", ""))
        return Text(mark, style)
    if not stage.has_begun:
        return Text("·", "dim")
    return Text(_SPINNER[int(now.timestamp() * 8) % len(_SPINNER)], "cyan")


def _bar(stage: StageView, progress: Progress, now: datetime) -> ProgressBar:
    if not stage.has_begun:
        return ProgressBar(total=1, completed=0, width=_BAR_WIDTH)
    if stage.has_ended:
        done = 1.0 if stage.outcome == "succeeded" else progress.fraction or 0.0
        return ProgressBar(total=1, completed=done, width=_BAR_WIDTH)
    pulse = progress.fraction is None
    return ProgressBar(
        total=1, completed=progress.fraction or 0, width=_BAR_WIDTH, pulse=pulse, animation_time=now.timestamp()
    )
