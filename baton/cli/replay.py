"""`baton replay`: play a past run again on the local cloud."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from baton.cli.common import (
    answers,
    examples,
    json_option,
    key_values,
    print_json,
    remarks,
    timeout_option,
    wait_option,
)
from baton.errors import EXIT_FAILED, EXIT_OK, Refused
from baton.render import one_line, plain
from baton.runs import STAGES

if TYPE_CHECKING:
    from baton.client import Client
    from baton.replaying import Compared, Export

_SHAPE = "{run_id, parent}; with --wait {run_id, parent, state, stages: [{stage, then, now, differences}]}"


@click.command(
    epilog=examples(
        "baton replay births-2022 --wait",
        "GOOGLE_CLOUD_PROJECT=my-project BATON_BUCKET=my-project-pipeline baton replay births-2022 --export run.json",
        "baton replay --file run.json --source gs://baton-local-data/incoming/babyweight/births.csv --wait",
        "baton replay births-2022 --from train --param num_train_examples=1000",
        json_shape=_SHAPE,
    )
)
@click.argument("run_id", required=False, metavar="[RUN]")
@click.option("--file", type=click.Path(path_type=Path), help="A run that was exported, from any ledger.")
@click.option("--export", "target", metavar="FILE", help="Write the run to FILE (- is stdout); publish nothing.")
@click.option("--from", "from_stage", type=click.Choice(STAGES), help="Begin at this stage's recorded event.")
@click.option("--source", metavar="URI", help="Read this, in place of what the recorded event names.")
@click.option("--param", "params", multiple=True, metavar="K=V", help="Set a parameter over the recorded ones; repeat.")
@wait_option("Watch it to its end, and compare it with the recorded run.")
@timeout_option
@json_option
@click.pass_context
def replay(
    context: click.Context,
    run_id: str | None,
    file: Path | None,
    target: str | None,
    from_stage: str | None,
    source: str | None,
    params: tuple[str, ...],
    wait: bool,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Play a past run again on the local cloud, from the events that the ledger recorded.

    Its first event is published under a new run id; all the others come again from the workers and jobs that are here now.
    Not brought back: the data (copied by you, or named with --source), the TOML and images of then (differences are told),
    attempts, failures and cancellations. Exit 1 if the replay does not end as the recorded run did.
    """
    from baton.client import Client
    from baton.replaying import read_export

    if (run_id is None) == (file is None):
        raise Refused("which run?", "name RUN, or give --file FILE")
    client = Client()
    export = read_export(file) if file is not None else client.export(str(run_id))
    if target is not None:
        _write(export, target)
        return
    new_id = client.replay(export, from_stage=from_stage, source=source, params=key_values(params, "--param"))
    _tell_differences(client, export)
    if not wait:
        _tell_started(new_id, export, as_json)
        return
    context.exit(EXIT_OK if _compare(client, new_id, export, timeout, as_json) else EXIT_FAILED)


def _write(export: "Export", target: str) -> None:
    text = export.model_dump_json(indent=2, exclude_none=True) + "\n"
    if target == "-":
        sys.stdout.write(text)
        return
    try:
        Path(target).write_text(text, encoding="utf-8")
    except OSError as fault:
        raise Refused(f"--export {target} cannot be written ({fault})", "name a writable file") from fault
    remarks().print(
        f"{plain(export.run_id)} written to {plain(target)}; replay it: baton replay --file {plain(target)}"
    )


def _tell_differences(client: "Client", export: "Export") -> None:
    """Say how the pipeline differs here from what the run was claimed with."""
    from baton.replaying import config_differences

    now = client.connections.catalog.get(export.pipeline).model_dump(mode="json", exclude_none=True)
    for key, then, here in config_differences(export.config, now):
        remarks().print(
            f"[yellow]differs[/] {plain(key)}: {plain(then) or 'unset'} then, {plain(here) or 'unset'} here"
        )


def _tell_started(new_id: str, export: "Export", as_json: bool) -> None:
    if as_json:
        print_json({"run_id": new_id, "parent": export.run_id})
        return
    answers().print(plain(new_id))


def _compare(client: "Client", new_id: str, export: "Export", timeout_s: float | None, as_json: bool) -> bool:
    from baton.replaying import compare
    from baton.watching import Watch

    (run,) = Watch(client, [("replay", new_id)], remarks()).until_end(timeout_s)
    compared = list(compare(export, run))
    if as_json:
        stages = [{"stage": c.stage, "then": c.then, "now": c.now, "differences": c.differences} for c in compared]
        answer: dict[str, Any] = {"run_id": new_id, "parent": export.run_id, "state": run.state.value, "stages": stages}
        print_json(answer)
    else:
        answers().print(_table(compared))
    return all(c.then == c.now for c in compared)


def _table(compared: "list[Compared]") -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("stage", "what", "then", "now"):
        table.add_column(name, overflow="fold")
    for stage in compared:
        style = "green" if stage.then == stage.now else "bold red"
        table.add_row(stage.stage, "outcome", plain(stage.then), f"[{style}]{plain(stage.now)}[/]")
        for what, then, now in stage.differences:
            table.add_row("", plain(what), plain(one_line(then)), plain(one_line(now)))
    return table
