"""`baton backfill`: many runs, a few at a time."""

import time
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from baton.cli.common import answers, examples, json_option, key_values, print_json, remarks
from baton.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, BatonError, InUse, Refused
from baton.render import one_line, plain, seconds

if TYPE_CHECKING:
    from baton.backfill.driver import Standing
    from baton.backfill.plan import Plan
    from baton.client import Client

_SHAPE = (
    "{id, pipeline, sources, succeeded, failed, cancelled, dead-lettered, in_flight, waiting, "
    "not_succeeded: [{run_id, source, outcome, reason}]}"
)
_SHOWN = 20


@click.command(
    epilog=examples(
        "baton backfill --pipeline babyweight --sources 'gs://my-data/births-20*.csv' --concurrency 8",
        "baton backfill --pipeline babyweight --sources sources.txt --id births --param num_train_examples=50000",
        "baton backfill --resume births --concurrency 16",
        "baton backfill --resume births --retry-failed",
        "baton backfill --status births --json",
        "baton backfill --cancel births",
        json_shape=_SHAPE,
    )
)
@click.option("--pipeline", metavar="NAME", help="The pipeline.")
@click.option(
    "--sources", multiple=True, metavar="URI|PATTERN|FILE", help="A source, gs://bucket/pattern*, or a list; repeat."
)
@click.option(
    "--concurrency", type=click.IntRange(1, 1000), default=4, show_default=True, help="Runs in flight at once."
)
@click.option("--param", "params", multiple=True, metavar="K=V", help="Set a parameter of every run; repeat.")
@click.option("--id", "backfill_id", metavar="ID", help="Name it; else a name that follows from what is to be done.")
@click.option("--resume", metavar="ID", help="Go on with one that is in the ledger.")
@click.option("--status", metavar="ID", help="Only say where one stands.")
@click.option("--cancel", metavar="ID", help="Cancel its runs in flight, start no more; return when they have ended.")
@click.option("--retry-failed", is_flag=True, help="Try those again that ended without a served model.")
@click.option("--take-over", is_flag=True, help="Drive it from here although another terminal does.")
@json_option
@click.pass_context
def backfill(
    context: click.Context,
    /,
    pipeline: str | None,
    sources: tuple[str, ...],
    concurrency: int,
    params: tuple[str, ...],
    backfill_id: str | None,
    resume: str | None,
    status: str | None,
    cancel: str | None,
    retry_failed: bool,
    take_over: bool,
    as_json: bool,
) -> None:
    """Run a pipeline on many sources with a bound on how many runs are in flight.

    Every source has one run, whose id follows from the backfill's and the source: the same command again, after Ctrl-C or a
    crash, goes on where it was and runs nothing twice. Exit 1 if a run did not succeed.
    """
    from baton.client import Client

    new = {"--pipeline": pipeline, "--sources": sources, "--param": params, "--id": backfill_id}
    old = {"--status": status, "--cancel": cancel, "--resume": resume}
    _check_one_wish(new, old, {"--retry-failed": retry_failed, "--take-over": take_over})
    client = Client()
    if status:
        context.exit(_status(client, client.backfills.plan(status), as_json))
    if cancel:
        context.exit(_cancel(client, client.backfills.plan(cancel), as_json))
    if resume:
        plan = client.backfills.plan(resume)
    else:
        plan = client.plan_backfill(list(sources), str(pipeline), key_values(params, "--param"), backfill_id)
    context.exit(_drive(client, plan, concurrency, retry_failed, take_over, as_json))


def _check_one_wish(new: Mapping[str, object], old: Mapping[str, str | None], driving: Mapping[str, object]) -> None:
    """Refuse what would be silently left aside: a plan in the ledger has its own pipeline, sources and parameters.

    Args:
        new: the options of a new backfill.
        old: those that name one in the ledger, `--resume` the last of them.
        driving: those that change how one is driven.
    """
    mend = "give --pipeline and --sources, or --resume ID, or --status ID, or --cancel ID"
    named = [option for option, value in old.items() if value is not None]
    if not named:
        missing = " and ".join(name for name in ("--pipeline", "--sources") if not new[name])
        if missing:
            raise Refused(f"what is to be run? {missing} is missing", mend)
        return
    option = named[0]
    wish, others = f"{option} {old[option]}", {**new, **{other: True for other in named[1:]}}
    if option != "--resume":
        others |= driving
    extra = " and ".join(name for name, value in others.items() if value)
    if extra:
        raise Refused(f"{wish} takes no {extra}: what it runs is in the ledger", f"leave {extra} out, or {mend}")


def _drive(client: "Client", plan: "Plan", concurrency: int, retry_failed: bool, take_over: bool, as_json: bool) -> int:
    from baton.house import interrupt_on_signals

    interrupt_on_signals()
    view, began = _View(plan), time.monotonic()
    try:
        with view.progress:
            standing = client.resume_backfill(
                plan, concurrency=concurrency, retry_failed=retry_failed, take_over=take_over, report=view.show
            )
    except KeyboardInterrupt:
        remarks().print(
            f"stopped; what is in flight goes on by itself. Resume with: baton backfill --resume {plan.id}",
            soft_wrap=True,
        )
        return EXIT_INTERRUPTED
    except InUse:
        raise
    except BatonError as fault:
        # An id that nobody gave follows from the sources: it has not been said anywhere yet.
        mend = "; then ".join(filter(None, (fault.mend, f"baton backfill --resume {plan.id}")))
        raise type(fault)(fault.message, mend) from fault
    if as_json:
        print_json(standing.to_json())
    else:
        _tell(standing, time.monotonic() - began)
    return EXIT_FAILED if standing.failed else EXIT_OK


def _status(client: "Client", plan: "Plan", as_json: bool) -> int:
    standing = client.backfill_standing(plan)
    if as_json:
        print_json(standing.to_json())
    else:
        _tell(standing, None)
    return EXIT_FAILED if standing.failed else EXIT_OK


def _cancel(client: "Client", plan: "Plan", as_json: bool) -> int:
    from baton.house import interrupt_on_signals

    interrupt_on_signals()
    view, began = _View(plan), time.monotonic()
    try:
        with view.progress:
            standing = client.cancel_backfill(plan, view.show)
    except KeyboardInterrupt:
        remarks().print(f"interrupted; again: baton backfill --cancel {plan.id}", soft_wrap=True)
        return EXIT_INTERRUPTED
    if as_json:
        print_json(standing.to_json())
        return EXIT_OK
    _tell(standing, time.monotonic() - began)
    if standing.waiting:
        answers().print(f"what was not started: baton backfill --resume {plain(plan.id)}", soft_wrap=True)
    return EXIT_OK


class _View:
    """A bar in a terminal; elsewhere one line for each run that ends."""

    def __init__(self, plan: "Plan") -> None:
        console = remarks()
        self._console = console
        self._told = 0
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[words]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._bar = self.progress.add_task(plan.id, total=len(plan.sources), words="")

    def show(self, standing: "Standing") -> None:
        """Show where it stands."""
        failed = standing.failures
        words = f"{len(standing.in_flight)} in flight" + (f", [red]{failed} failed[/]" if failed else "")
        self.progress.update(self._bar, completed=len(standing.ended), words=words)
        for run_id in standing.seen_ending[self._told :]:
            self._say(standing, run_id, standing.ended[run_id])
        self._told = len(standing.seen_ending)

    def _say(self, standing: "Standing", run_id: str, how: str) -> None:
        reason = one_line(standing.reasons.get(run_id, ""))
        if self._console.is_terminal and how == "succeeded":
            return  # the bar says it
        stamp = datetime.now().astimezone().strftime("%H:%M:%S")
        name = standing.again.get(run_id, run_id)
        text = f"{stamp} {plain(name)}: {how}" + (f": {plain(reason)}" if reason else "")
        self._console.print(text, highlight=False, soft_wrap=True)


def _tell(standing: "Standing", took_s: float | None) -> None:
    console = answers()
    counts = ", ".join(f"{count:,} {word}" for word, count in standing.counts.items())
    left = [f"{len(standing.in_flight):,} in flight"] if standing.in_flight else []
    left += [f"{len(standing.waiting):,} not started"] if standing.waiting else []
    took = f" in {seconds(took_s)}" if took_s is not None else ""
    console.print(f"{plain(standing.plan.id)}: {', '.join(filter(None, [counts, *left]))}{took}", soft_wrap=True)
    body = standing.to_json()["not_succeeded"]
    for row in body[:_SHOWN]:
        reason = f": {plain(one_line(row['reason']))}" if row["reason"] else ""
        console.print(
            f"  [bold red]{row['outcome']}[/] {plain(row['run_id'])}  {plain(one_line(row['source']))}{reason}",
            soft_wrap=True,
        )
    if len(body) > _SHOWN:
        console.print(f"  and {len(body) - _SHOWN:,} more; --json lists all")
    if body:
        console.print(
            f"[bold]mend:[/] the causes, then baton backfill --resume {plain(standing.plan.id)} --retry-failed"
        )
