"""`baton cancel`: stop runs."""

import time
from typing import TYPE_CHECKING

import click

from baton.cli.common import Seconds, answers, examples, json_option, print_json, remarks, report
from baton.cli.runs import RUN_SHAPE
from baton.errors import EXIT_FAILED, EXIT_OK, BatonError, Unreachable
from baton.render import one_line, plain, seconds

if TYPE_CHECKING:
    from baton.runs import Run

_TIMEOUT_S = 300.0


@click.command(
    epilog=examples(
        "baton cancel births-2022",
        "baton cancel RUN RUN RUN",
        "baton cancel births-2022 --no-wait",
        json_shape=f"[{RUN_SHAPE}, …]",
    )
)
@click.argument("run_ids", nargs=-1, required=True, metavar="RUN…")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Show how it stops, until nothing of it runs.")
@click.option(
    "--timeout",
    type=Seconds(),
    default=_TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait at most.",
)
@click.option("--unclaimed", is_flag=True, help="Also runs that no worker has claimed yet: they will not begin.")
@json_option
@click.pass_context
def cancel(
    context: click.Context, run_ids: tuple[str, ...], wait: bool, timeout: float, unclaimed: bool, as_json: bool
) -> None:
    """Stop runs: the cloud job that runs now within seconds, at any stage; no later stage starts.

    What a rollout has deployed already is taken back, and the model that served before serves again. A run that cannot be
    cancelled keeps none of the others. Exit 1 if a run ended by itself before.
    """
    from baton.client import Client
    from baton.runs import RunState
    from baton.watching import Watch

    client, began = Client(), time.monotonic()
    ended, code = [], EXIT_OK
    for run_id in dict.fromkeys(run_ids):
        try:
            ended.append(client.cancel(run_id, unclaimed=unclaimed))
        except Unreachable:
            raise
        except BatonError as fault:
            told = report(fault)
            code = code or told
    if wait and ended:
        console = remarks() if as_json else answers()
        ended = Watch(client, [("cancel", run.id) for run in ended], console).until_end(timeout)
    if as_json and (ended or not code):
        print_json([run.to_json() for run in ended])
    else:
        for run in ended:
            answers().print(_line(run, time.monotonic() - began, wait), soft_wrap=True)
    is_well = not wait or all(run.state is RunState.CANCELLED for run in ended)
    context.exit(code if is_well else code or EXIT_FAILED)


def _line(run: "Run", took_s: float, is_over: bool) -> str:
    name = plain(one_line(run.id))
    if not is_over:
        return f"{name}  [yellow]being cancelled[/]; watch it: baton runs watch {name}"
    if run.state.value != "cancelled":
        return f"{name}  [bold]{run.state.value}[/] before it could be cancelled"
    jobs = [stage.job.name for stage in run.stages if stage.outcome == "cancelled" and stage.job]
    stopped = f": {plain(one_line(', '.join(jobs)))} stopped" if jobs else ""
    return f"{name}  [yellow]cancelled[/] after {seconds(took_s)}{stopped}; nothing of it runs any more"
