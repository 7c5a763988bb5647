"""`baton demo`: the main job, start to finish."""

from pathlib import Path

import click

from baton.cli.common import answers, examples
from baton.profile import DEFAULT_HOME


@click.command(epilog=examples("baton demo", "baton demo --data-dir /tmp/scratch", "baton demo | tee demo.log"))
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_HOME,
    show_default=True,
    envvar="BATON_HOME",
    help="Where everything durable lives; logs are in its folder logs/.",
)
def demo(data_dir: Path) -> None:
    """Start the local cloud and the workers, load 20,000 births, train and serve a model in two runs, and ask it.

    Exit code 0 only if the model serves. Ctrl-C ends everything. It may be run again: each time makes two new runs.
    """
    from baton.demo import run_demo
    from baton.house import interrupt_on_signals

    interrupt_on_signals()
    run_demo(data_dir, answers())
