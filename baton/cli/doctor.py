"""`baton doctor`: what is wrong, where, and the mend."""

import click

from baton.cli.common import answers, examples, json_option, print_json
from baton.errors import EXIT_FAILED, EXIT_OK

_MARKS = {"ok": "[green]✔[/]", "note": "[yellow]•[/]", "problem": "[bold red]✘[/]"}


@click.command(
    epilog=examples(
        "baton doctor",
        "baton doctor --json | jq '.[] | select(.verdict == \"problem\")'",
        json_shape="[{verdict: ok|note|problem, what, where, mend}, …]",
    )
)
@json_option
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Look at Python, settings, endpoints, resources, pipelines and dead letters; exit 1 if something is wrong."""
    from baton.doctor import Finding, Verdict, examine
    from baton.render import plain

    console = answers()
    found: list[Finding] = []
    for finding in examine():
        found.append(finding)
        if not as_json:
            mark = _MARKS[finding.verdict.value]
            console.print(f"{mark} {plain(finding.what)}  [dim]{plain(finding.where)}[/]", soft_wrap=True)
            if finding.mend:
                console.print(f"  mend: {plain(finding.mend)}", soft_wrap=True)
    if as_json:
        print_json([finding.to_json() for finding in found])
    has_problem = any(finding.verdict is Verdict.PROBLEM for finding in found)
    if not as_json:
        console.print("[bold red]something is wrong[/]" if has_problem else "[green]all is well[/]")
    context.exit(EXIT_FAILED if has_problem else EXIT_OK)
