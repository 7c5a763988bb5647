"""The main job, from an empty folder to a served model: what `baton demo` does, step by step, with the time of each.

Two runs of the same births: one begun by a message about a BigQuery table, one by the notification of a bucket.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from baton import births
from baton.cli.runs import metrics_text
from baton.client import Client
from baton.errors import BatonError, Refused, RunFailed
from baton.house import LOGS, House
from baton.locks import is_up
from baton.logbook import LogBook
from baton.profile import ENDPOINTS, Profile, find_root, local_profile, read_endpoints
from baton.render import plain, seconds
from baton.runs import Run, RunState
from baton.setup import Outcome, set_up
from baton.tables import time_table
from baton.watching import Watch

RUN_TIMEOUT_S = 900.0
_LOG_TAIL_LINES = 12
_TELLING = ("rmse", "mae", "baseline_rmse", "train_examples", "eval_examples")


@dataclass
class Steps:
    """Shows the steps as they are made, and keeps how long each took."""

    console: Console
    taken: list[tuple[str, float]] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[[str], None]]:
        """Time a step; the caller may say a word about its outcome."""
        words: list[str] = []
        began = time.monotonic()
        with self.console.status(f"{name} …"):
            yield words.append
        self.taken.append((name, time.monotonic() - began))
        said = f"  [dim]{plain(words[-1])}[/]" if words else ""
        line = f"[green]✔[/] {name:<26} {seconds(self.taken[-1][1]):>8}{said}"
        self.console.print(line, no_wrap=True, overflow="ellipsis")


def run_demo(home: Path, console: Console) -> dict[str, Any]:
    """Make the demo's two runs, show them, and ask the model that serves.

    Returns:
        What was shown, for `--json`: runs, endpoint, predictions and how long each step took.

    Raises:
        BatonError: something failed; the model does not serve.
    """
    began = time.monotonic()
    sample = births.sample_file(find_root(home) or Path.cwd())
    steps = Steps(console)
    with _local_cloud(home, steps) as (profile, check):
        client = Client(profile)
        with steps.step("load births into BigQuery") as say:
            table, rows = births.load_into_bigquery(client.connections, sample)
            say(f"{rows:,} rows, {table}")
        _tell_of_earlier_runs(client, console)
        runs = _start_runs(client, table, sample, steps)
        console.print()
        watched = time.monotonic()
        ended = Watch(client, runs, console).until_end(RUN_TIMEOUT_S, meanwhile=check)
        steps.taken.append(("both runs", time.monotonic() - watched))
        console.print()
        titled = [(title, run) for (title, _), run in zip(runs, ended, strict=True)]
        _refuse_failed(client, titled, console)
        served = _show_model(client, titled, console)
    _show_times(steps, titled, began, console)
    _show_next(ended[-1], console)
    steps_s = {name: round(took, 3) for name, took in steps.taken}
    return {"runs": [run.to_json() for run in ended], **served, "steps_s": steps_s}


@contextmanager
def _local_cloud(home: Path, steps: Steps) -> Iterator[tuple[Profile, Callable[[], None]]]:
    """Have a local cloud with workers: the one that runs here already, or one of our own that ends with us."""
    if is_up(home):
        profile = local_profile(os.environ, home, read_endpoints(home / ENDPOINTS))
        steps.console.print(f"[dim]using the `baton up` that runs in {plain(str(home))}[/]")
        _set_up(profile, steps)
        yield profile, lambda: None
        return
    book = LogBook(home / LOGS, console=None)
    house = House(home, book)
    try:
        with steps.step("start the local cloud") as say:
            house.__enter__()
            say(f"data and logs in {home}")
        _set_up(house.profile, steps)
        house.start_workers()
        yield house.profile, house.check
    finally:
        began = time.monotonic()
        with steps.console.status("ending workers and local cloud …"):
            house.close()
        steps.taken.append(("end everything", time.monotonic() - began))
        book.close()


def _set_up(profile: Profile, steps: Steps) -> None:
    from baton.connections import Connections

    with steps.step("set-up") as say:
        made = set_up(Connections(profile), lambda step: None)
        for step in made:
            if step.outcome in (Outcome.SKIPPED, Outcome.DIFFERS):
                raise Refused(f"{step.kind} {step.name}: {step.detail}", step.mend)
        created = sum(step.outcome is Outcome.CREATED for step in made)
        say(f"{created} resources created, {len(made) - created} were there")


def _tell_of_earlier_runs(client: Client, console: Console) -> None:
    """Say that interrupted runs are carried on beside the new ones: they take their share of the machine."""
    going_on = [run.id for run in client.runs() if not run.state.is_final]
    if going_on:
        told = f"also carried on: {len(going_on)} earlier runs that were interrupted ({', '.join(going_on)})"
        console.print(f"[dim]{plain(told)}[/]", soft_wrap=True)


def _start_runs(client: Client, table: str, sample: Path, steps: Steps) -> list[tuple[str, str]]:
    """Start both runs; return (title, run id) of each."""
    with steps.step("publish data-ready") as say:
        first = client.publish_data_ready(table)
        say(f"run {first}")
    with steps.step("upload to the bucket") as say:
        uploaded = client.upload(sample)
        say(f"run {uploaded.run_id}, {uploaded.uri}")
    return [("by message", first), ("by notification", uploaded.run_id)]


def _refuse_failed(client: Client, titled: list[tuple[str, Run]], console: Console) -> None:
    """Show why runs failed, with the ends of their logs.

    Raises:
        RunFailed: at least one did.
    """
    failed = [(title, run) for title, run in titled if run.state is not RunState.SUCCEEDED]
    if not failed:
        return
    for title, run in failed:
        failure = run.failure or {
            "stage": "run",
            "reason": run.state.value,
            "message": "it did not end well",
            "mend": "",
        }
        head = f"[bold red]✘ the run {title} failed in {failure['stage']}[/] ({plain(failure['reason'])})"
        console.print(f"{head}: {plain(failure['message'])}", soft_wrap=True)
        for line in failure.get("log_tail") or _log_tail(client, run, failure["stage"]):
            if line not in failure["message"]:  # which often ends with the log's own end
                console.print(f"  [dim]{plain(line)}[/]", soft_wrap=True)
        if failure["mend"]:
            console.print(f"  [bold]mend:[/] {plain(failure['mend'])}", soft_wrap=True)
    raise RunFailed(
        f"{len(failed)} of {len(titled)} runs failed",
        f"see above; the workers' own logs are in {client.profile.home / LOGS}, and `baton logs` has the jobs'",
    )


def _log_tail(client: Client, run: Run, stage: str) -> list[str]:
    """Return the end of what the stage's jobs wrote, where the failure itself does not carry it."""
    lines = client.logs(run.id, stage) if run.stage(stage) else []
    return [line.text for line in lines[-_LOG_TAIL_LINES:]]


def _show_model(client: Client, titled: list[tuple[str, Run]], console: Console) -> dict[str, Any]:
    """Print the metrics, the endpoint, and what it answers over HTTP; return the last two."""
    for title, run in titled:
        console.print(
            f"[bold]model of the run {title}[/]  {plain(metrics_text(_telling(run.metrics)))}", soft_wrap=True
        )
    endpoint = client.endpoint()
    address = client.profile.get("BATON_AIPLATFORM_ENDPOINT")
    url = f"{address}/v1/{endpoint}:predict"
    console.print(f"[bold]endpoint[/]  {plain(url)}", soft_wrap=True)
    answers = client.predict([instance for _, instance in births.EXAMPLES])
    for (words, _), answer in zip(births.EXAMPLES, answers, strict=True):
        console.print(f"[bold]prediction[/]  {words}: [bold green]{_pounds(answer):.1f} lb[/]", soft_wrap=True)
    asked = [{"instance": i, "pounds": _pounds(a)} for (_, i), a in zip(births.EXAMPLES, answers, strict=True)]
    return {"endpoint": url, "predictions": asked}


def _telling(metrics: dict[str, float]) -> dict[str, float]:
    """Return the figures that say how good a model is; all of them are in metrics.json."""
    return {name: value for name, value in metrics.items() if name.startswith(_TELLING)}


def _pounds(answer: object) -> float:
    """Read one prediction, a number or a list of one.

    Raises:
        BatonError: it is neither.
    """
    value = answer[0] if isinstance(answer, list) and len(answer) == 1 else answer
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise BatonError(f"the endpoint answered {answer!r}, which is no weight", "see `baton logs RUN deploy`")
    return float(value)


def _show_times(steps: Steps, titled: list[tuple[str, Run]], began: float, console: Console) -> None:
    console.print()
    console.print(time_table(titled, datetime.now(UTC), console.width))
    total = time.monotonic() - began
    spent = ", ".join(f"{name} {seconds(took)}" for name, took in steps.taken)
    console.print(f"[bold]whole demo {seconds(total)}[/]  [dim]{spent}[/]", soft_wrap=True)


def _show_next(run: Run, console: Console) -> None:
    instance = '{"is_male": "True", "mother_age": 28, "plurality": "Single(1)", "gestation_weeks": 39}'
    console.print()
    console.print("[bold]next[/]  the local cloud has ended; its data is kept, so the model serves again with:")
    for command in (
        "baton up                    # in a terminal of its own",
        f"baton predict --instance '{instance}'",
        f"baton runs show {run.id}",
        f"baton logs {run.id} train",
        "baton upload samples/natality_2022.csv --wait",
        "baton doctor",
    ):
        console.print(f"  {plain(command)}", soft_wrap=True)
