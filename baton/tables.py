"""Tables about runs: their stages, and where the time went."""

from collections.abc import Sequence
from datetime import datetime

from rich.table import Table

from baton.render import plain, seconds
from baton.runs import Run, StageView
from baton.timeline import PARTS, stage_times

_STYLES = {"succeeded": "green", "failed": "bold red", "cancelled": "yellow"}
_BAR_WIDTH = 24
_WIDE = 106  # columns; below it the bars would squeeze the figures


def stage_table(run: Run, now: datetime) -> Table:
    """Return the run's stages: state, attempts, job and what came of it."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("stage", "state", "attempt", "took"):
        table.add_column(name, no_wrap=True)
    table.add_column("job", overflow="fold")
    table.add_column("result", overflow="fold")
    for stage in run.stages:
        word = stage.outcome or stage.state
        style = _STYLES.get(word, "")
        table.add_row(
            stage.name,
            f"[{style}]{word}[/]" if style else word,
            str(stage.attempt) if stage.attempt else "",
            seconds(stage.elapsed_s(now)) if stage.has_begun else "",
            plain(stage.job.name) if stage.job else "",
            plain(_result(stage)),
        )
    return table


def time_table(titled: Sequence[tuple[str, Run]], now: datetime, width: int) -> Table:
    """Return where the time of some runs went, stage by stage, with a bar that compares them where there is room."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("where the time went", no_wrap=True)
    for part in PARTS:
        table.add_column(part, justify="right", no_wrap=True)
    table.add_column("total", justify="right", style="bold", no_wrap=True)
    has_room = width >= _WIDE
    if has_room:
        table.add_column("", no_wrap=True)
    rows = [(title, times) for title, run in titled for times in stage_times(run, now)]
    longest = max((times.total for _, times in rows), default=0.0) or 1.0
    for title, times in rows:
        bar = "█" * max(1, round(_BAR_WIDTH * times.total / longest))
        parts = [seconds(getattr(times, part)) for part in PARTS]
        cells = [f"{title} {times.stage}".strip(), *parts, seconds(times.total)]
        table.add_row(*cells, *([f"[cyan]{bar}[/]"] if has_room else []))
    return table


def _result(stage: StageView) -> str:
    result = stage.result
    if stage.name == "preprocess" and "train_examples" in result:
        return (
            f"{result['train_examples']:,} train and {result['eval_examples']:,} eval examples, "
            f"{result['rejected_rows']:,} rejected"
        )
    if stage.name == "train" and result.get("metrics"):
        return ", ".join(f"{k} {v:.4g}" for k, v in result["metrics"].items() if k.startswith(("rmse", "baseline")))
    if stage.name == "deploy" and result.get("model"):
        return str(result["model"]).rsplit("/", 1)[-1]
    return ""
