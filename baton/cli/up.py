"""`baton up`: the local cloud and the workers in the foreground, in one log."""

import threading
from pathlib import Path

import click
from rich.panel import Panel
from rich.table import Table

from baton.cli.common import answers, examples
from baton.profile import DEFAULT_HOME

_LOOK_S = 1.0


@click.command(
    epilog=examples(
        "baton up",
        "baton up --data-dir /tmp/scratch --ports pubsub=8085,storage=4443",
        "baton up --raw | jq -c 'select(.run_id)'",
    )
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_HOME,
    show_default=True,
    envvar="BATON_HOME",
    help="Where everything durable lives.",
)
@click.option("--ports", default="", metavar="PART=PORT,…", help="Ports of the local cloud's parts; else free ones.")
@click.option("--raw", is_flag=True, help="Print the processes' JSON log lines untouched.")
def up(data_dir: Path, ports: str, raw: bool) -> None:
    """Start the local cloud and the workers, set them up, and show one log of all; Ctrl-C ends everything.

    A process that dies is started again. Each process's lines are kept in DATA_DIR/logs too.
    """
    from baton.connections import Connections
    from baton.house import LOGS, House, interrupt_on_signals
    from baton.logbook import LogBook
    from baton.processes import OURSELVES, log_entry
    from baton.setup import set_up

    console = answers()
    gone = threading.Event()
    book = LogBook(data_dir / LOGS, console, is_raw=raw, on_closed=gone.set)

    def say(action: str, **fields: str) -> None:
        book(OURSELVES, log_entry(action, **fields))

    interrupt_on_signals()
    try:
        with House(data_dir, book, ports) as house:
            set_up(Connections(house.profile), lambda step: say("set-up", **step.to_json()))
            house.start_workers()
            if raw:
                say("ready", **{name: value for name, value in house.profile.addresses()})
            else:
                console.print(_ready_panel(house.profile.source, dict(house.profile.addresses())))
            while not gone.wait(_LOOK_S):
                pass
    except KeyboardInterrupt:
        say("stopped")
    finally:
        book.close()


def _ready_panel(source: str, addresses: dict[str, str]) -> Panel:
    table = Table.grid(padding=(0, 2))
    for name, address in addresses.items():
        table.add_row(name, address)
    table.add_row()
    table.add_row("settings", f"{source} (other terminals find them by themselves in this folder)")
    table.add_row("next", "baton upload samples/natality_2022.csv --wait")
    table.add_row("", "baton runs    baton doctor    baton --help")
    return Panel(table, title="ready", title_align="left", expand=False, border_style="green")
