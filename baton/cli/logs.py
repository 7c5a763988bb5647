"""`baton logs`: what a run's jobs wrote."""

import time
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.text import Text

from baton.cli.common import answers, examples, json_option, print_json_line, remarks
from baton.render import COLOURS, clean, log_line

if TYPE_CHECKING:
    from baton.joblogs import LogLine

_FOLLOW_S = 1.0


@click.command(
    epilog=examples(
        "baton logs RUN",
        "baton logs RUN train --follow",
        json_shape="one {time, stage, job_id, severity, text} a line",
    )
)
@click.argument("run_id", metavar="RUN")
@click.argument("stage", required=False, metavar="[STAGE]")
@click.option("--follow", "-f", is_flag=True, help="Go on until the run has ended.")
@json_option
def logs(run_id: str, stage: str | None, follow: bool, as_json: bool) -> None:
    """Show what the jobs of RUN wrote, of one STAGE (preprocess, train, deploy) or of all, over all attempts."""
    from baton.client import Client

    client = Client()
    shown: set[tuple[str, str]] = set()
    console = answers()
    while True:
        has_ended = client.run(run_id).state.is_final  # asked first: lines written before the end are then all there
        for line in client.logs(run_id, stage):
            key = (line.job_id, line.insert_id or f"{line.time.isoformat()} {line.text}")
            if key not in shown:
                shown.add(key)
                _show(console, line, as_json)
        if not follow or has_ended:
            break
        time.sleep(_FOLLOW_S)
    if not shown:
        remarks().print(f"no job of run {run_id} has written a line yet" + (f" in {stage}" if stage else ""))


def _show(console: Console, line: "LogLine", as_json: bool) -> None:
    if as_json:
        print_json_line(line.to_json())
        return
    if line.text.startswith("{"):
        console.print(log_line(line.stage, line.text), soft_wrap=True)
        return
    text = Text()
    text.append(f"{line.time.astimezone():%H:%M:%S.%f}"[:-3] + " ", "dim")
    text.append(f"{line.stage:<10} ", COLOURS.get(line.stage, ""))
    text.append(clean(line.text), "bold red" if line.severity in ("ERROR", "CRITICAL") else "")
    console.print(text, soft_wrap=True)
