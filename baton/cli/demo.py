"""`baton demo`: the main job, start to finish."""

from pathlib import Path

import click

from baton.cli.common import answers, examples, json_option, print_json, remarks
from baton.profile import DEFAULT_HOME

SHAPE = "{runs: [as in `baton runs`], endpoint, predictions: [{instance, pounds}], steps_s: {step: seconds}}"


@click.command(
    epilog=examples("baton demo", "baton demo --data-dir /tmp/scratch", "baton demo | tee demo.log", json_shape=SHAPE)
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_HOME,
    show_default=True,
    envvar="BATON_HOME",
    help="Where everything durable lives; logs are in its folder logs/.",
)
@json_option
def demo(data_dir: Path, as_json: bool) -> None:
    """Start the local cloud and the workers, load 20,000 births, train and serve a model in two runs, and ask it.

    Exit code 0 only if the model serves. Ctrl-C ends everything. It may be run again: each time makes two new runs.
    """
    from baton.demo import run_demo
    from baton.house import interrupt_on_signals

    interrupt_on_signals()
    told = run_demo(data_dir, remarks() if as_json else answers())
    if as_json:
        print_json(told)
