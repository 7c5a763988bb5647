"""`baton doctor`: what is wrong, where, and the mend."""

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click
from rich.console import Console

from baton.cli.common import answers, examples, json_option, print_json
from baton.errors import EXIT_FAILED, EXIT_OK

if TYPE_CHECKING:
    from baton.doctor import Finding

_MARKS = {"ok": "[green]✔[/]", "note": "[yellow]•[/]", "problem": "[bold red]✘[/]"}


@click.command(
    epilog=examples(
        "baton doctor",
        "baton doctor --json | jq '.[] | select(.verdict == \"problem\")'",
        json_shape="[{verdict: ok|note|problem|skipped, what, where, mend}, …]",
    )
)
@json_option
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Look at Python, settings, endpoints, resources, pipelines and dead letters; exit 1 if something is wrong.

    Where Google's credentials are missing or of no use, that is said once; the checks that need them are skipped.
    """
    from baton.doctor import Verdict, examine

    console = answers()
    found: list[Finding] = []
    for finding in examine():
        found.append(finding)
        if not as_json and finding.verdict is not Verdict.SKIPPED:
            _show(console, finding)
    skipped = [finding for finding in found if finding.verdict is Verdict.SKIPPED]
    if as_json:
        print_json([finding.to_json() for finding in found])
    has_problem = any(finding.verdict is Verdict.PROBLEM for finding in found)
    if not as_json:
        _count(console, skipped)
        console.print("[bold red]something is wrong[/]" if has_problem else "[green]all is well[/]")
    context.exit(EXIT_FAILED if has_problem else EXIT_OK)


def _show(console: Console, finding: "Finding") -> None:
    from baton.render import plain

    mark = _MARKS[finding.verdict.value]
    console.print(f"{mark} {plain(finding.what)}  [dim]{plain(finding.where)}[/]", soft_wrap=True)
    if finding.mend:
        console.print(f"  mend: {plain(finding.mend)}", soft_wrap=True)


def _count(console: Console, skipped: Iterable["Finding"]) -> None:
    """Give those that were skipped for one reason one line; which they were, `--json` tells."""
    for reason, number in Counter(finding.what for finding in skipped).items():
        console.print(f"[dim]–[/] {number} check{'s' * (number > 1)} skipped: {reason}", soft_wrap=True)
