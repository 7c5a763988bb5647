"""`baton runs`: list them, show one, watch one."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from baton.cli.common import Seconds, answers, examples, json_option, print_json, remarks
from baton.errors import EXIT_FAILED, EXIT_OK
from baton.render import plain, seconds

if TYPE_CHECKING:
    from baton.client import Client
    from baton.runs import Run

RUN_SHAPE = (
    "{id, pipeline, state: waiting|running|succeeded|failed|cancelled, started, ended, params, parent, metrics, endpoint, "
    "failure: {stage, reason, message, mend, log_tail}, stages: [{name, state, outcome, attempt, phase, job: {id, name, "
    "kind, state, location}, source, result, failure, triggered, started, ended, history: [{time, state, attempt, phase, "
    "job_id, by, note, left_out}]}]}"
)
_WIDE = 100  # columns, from which on a list has room for all
_STYLES = {"succeeded": "green", "failed": "bold red", "cancelled": "yellow", "running": "bold", "waiting": "dim"}


@click.group(
    invoke_without_command=True,
    epilog=examples("baton runs", "baton runs show RUN", "baton runs watch RUN", json_shape=f"[{RUN_SHAPE}, …]"),
)
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many, the newest first."
)
@json_option
@click.pass_context
def runs(context: click.Context, limit: int, as_json: bool) -> None:
    """List the runs, the newest first."""
    if context.invoked_subcommand is not None:
        return
    from baton.client import Client

    found = Client().runs(limit)
    if as_json:
        print_json([run.to_json() for run in found])
        return
    if not found:
        remarks().print("no runs yet; start one: baton upload samples/natality_2022.csv --wait")
        return
    console = answers()
    console.print(run_list(found, datetime.now(UTC), console.width))


@runs.command(epilog=examples("baton runs show births-2022-1f0c3a", json_shape=RUN_SHAPE))
@click.argument("run_id", metavar="RUN")
@json_option
def show(run_id: str, as_json: bool) -> None:
    """Show one run: its stages, jobs, results, failures, and where its time went."""
    from baton.client import Client

    client = Client()
    run = client.run(run_id)
    if as_json:
        print_json(run.to_json())
        return
    console = answers()
    for part in run_details(run, datetime.now(UTC), console.width):
        console.print(part, soft_wrap=isinstance(part, str))
    for retry in client.retries(run_id):
        if retry.id != run_id:
            style = _STYLES[retry.state.value]
            console.print(f"tried again as {plain(retry.id)}  [{style}]{retry.state.value}[/]", soft_wrap=True)


@runs.command(
    epilog=examples("baton runs watch births-2022-1f0c3a --timeout 600", json_shape=f"at the end {RUN_SHAPE}")
)
@click.argument("run_id", metavar="RUN")
@click.option("--timeout", type=Seconds(), metavar="SECONDS", help="How long at most.")
@json_option
def watch(run_id: str, timeout: float | None, as_json: bool) -> None:
    """Watch a run to its end; exit 1 if it does not succeed."""
    from baton.client import Client

    has_succeeded = watch_to_end(Client(), run_id, timeout, as_json)
    click.get_current_context().exit(EXIT_OK if has_succeeded else EXIT_FAILED)


def watch_to_end(client: "Client", run_id: str, timeout_s: float | None, as_json: bool) -> bool:
    """Show the run's progress until it has ended, then what came of it; return whether it succeeded."""
    from baton.runs import RunState
    from baton.watching import Watch

    # Progress is no answer: with --json it goes to stderr, so that stdout holds the one document.
    console = remarks() if as_json else answers()
    (run,) = Watch(client, [("run", run_id)], console).until_end(timeout_s)
    if as_json:
        print_json(run.to_json())
    else:
        for part in outcome(run):
            console.print(part, soft_wrap=True)
    return run.state is RunState.SUCCEEDED


def outcome(run: "Run") -> list[str]:
    """Return how a run ended: metrics and endpoint, or cause, log tail and mend."""
    if run.failure:
        failure = run.failure
        lines = [f"[bold red]{failure['stage']} failed[/] ({plain(failure['reason'])}): {plain(failure['message'])}"]
        said = failure["message"]  # often ends with the log's own end: nothing is shown twice
        lines += [f"  [dim]{plain(line)}[/]" for line in failure.get("log_tail", []) if line not in said]
        return [*lines, f"[bold]mend:[/] {plain(failure['mend'])}"]
    lines = [f"metrics   {plain(metrics_text(run.metrics))}"] if run.metrics else []
    return lines + ([f"endpoint  {plain(run.endpoint)}"] if run.endpoint else [])


def metrics_text(metrics: dict[str, Any]) -> str:
    """Return figures on one line: `rmse_lb 1.03, train_examples 28000`."""
    return ", ".join(
        f"{name} {value:,}" if isinstance(value, int) else f"{name} {value:.4g}" for name, value in metrics.items()
    )


def run_details(run: "Run", now: datetime, width: int) -> list[Any]:
    """Return everything about a run, for a console."""
    from baton.tables import stage_table, time_table

    style = _STYLES[run.state.value]
    head = "  ".join(
        filter(None, (f"[underline]{plain(run.id)}[/]", plain(run.pipeline), f"[{style}]{run.state.value}[/]"))
    )
    if run.started is None:  # cancelled before: nothing of it will ever begin
        return [f"{head} before a worker claimed it: nothing under this id begins any more"]
    params = ", ".join(f"{key}={value}" for key, value in run.params.items())
    parts: list[Any] = [f"{head}  {run.started.astimezone():%Y-%m-%d %H:%M:%S}  {seconds(run.elapsed_s(now))}"]
    if run.parent:
        parts.append(f"[dim]again   {plain(run.parent)}[/]")
    if params:
        parts.append(f"[dim]params  {plain(params)}[/]")
    came_of_it = ["", *outcome(run)] if outcome(run) else []
    return [*parts, "", stage_table(run, now), *came_of_it, "", time_table([("", run)], now, width)]


def run_list(found: "list[Run]", now: datetime, width: int) -> Table:
    """Return the list of runs. An id is to be copied and a state to be seen, so neither is ever cut: where there is no room
    for all, the year, the seconds and the name of the only pipeline go, and what is still too long is folded.
    """
    is_wide = width >= _WIDE
    has_pipeline = is_wide or len({run.pipeline for run in found if run.pipeline}) > 1
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("run", overflow="fold")
    if has_pipeline:
        table.add_column("pipeline", overflow="fold")
    for name in ("state", "stage", "started", "took"):
        table.add_column(name, no_wrap=True)
    for run in found:
        current = next((s for s in reversed(run.stages) if s.has_begun), None)
        started = (
            run.started.astimezone().strftime("%Y-%m-%d %H:%M:%S" if is_wide else "%m-%d %H:%M") if run.started else ""
        )
        table.add_row(
            run.id,
            *([run.pipeline] if has_pipeline else []),
            f"[{_STYLES[run.state.value]}]{run.state.value}[/]",
            current.name if current else "",
            started,
            seconds(run.elapsed_s(now)),
        )
    return table
