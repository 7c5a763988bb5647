"""`baton retry`: try a run again."""

import click

from baton.cli.common import answers, examples, json_option, print_json, timeout_option, wait_option
from baton.cli.runs import RUN_SHAPE, watch_to_end
from baton.errors import EXIT_FAILED, EXIT_OK
from baton.render import plain
from baton.runs import STAGES


@click.command(
    epilog=examples(
        "baton retry births-2022",
        "baton retry births-2022 --from train --wait",
        json_shape=f"{{run_id, parent}}; with --wait {RUN_SHAPE}",
    )
)
@click.argument("run_id", metavar="RUN")
@click.option(
    "--from", "from_stage", type=click.Choice(STAGES), help="Begin at this stage; else at the one that failed."
)
@wait_option("Watch the new run to its end; exit 1 if it fails.")
@timeout_option
@json_option
@click.pass_context
def retry(
    context: click.Context, run_id: str, from_stage: str | None, wait: bool, timeout: float | None, as_json: bool
) -> None:
    """Try a run again that failed or was cancelled; what its earlier stages made is used as it is.

    The recorded event of the stage is published again under a new run id, RUN-r2, RUN-r3 …; both keep their own history,
    and `baton runs show` names the parent. The pipeline's TOML counts as it is now. A run that succeeded runs again with
    --from.
    """
    from baton.client import Client

    client = Client()
    new_id = client.retry(run_id, from_stage)
    if wait:
        context.exit(EXIT_OK if watch_to_end(client, new_id, timeout, as_json) else EXIT_FAILED)
    if as_json:
        print_json({"run_id": new_id, "parent": run_id})
        return
    console = answers()
    console.print(plain(new_id))
    if console.is_terminal:
        console.print(f"[dim]watch it: baton runs watch {plain(new_id)}[/]")
