"""`baton setup`: create what the pipeline needs."""

import click

from baton.cli.common import answers, examples, json_option, print_json
from baton.errors import EXIT_FAILED, EXIT_OK

_STYLES = {"created": "green", "updated": "green", "exists": "dim", "skipped": "yellow", "differs": "bold yellow"}


@click.command(
    epilog=examples(
        "baton setup",
        "GOOGLE_CLOUD_PROJECT=my-project BATON_BUCKET=my-project-pipeline baton setup",
        json_shape="[{kind, name, outcome: created|exists|updated|skipped|differs, detail, mend}, …]",
    )
)
@json_option
@click.pass_context
def setup(context: click.Context, as_json: bool) -> None:
    """Create buckets, topics, subscriptions, the bucket's notification and the flex templates.

    May be repeated: what exists stays; what exists but differs is reported with the mend, and the exit code is 1.
    """
    from baton.connections import Connections
    from baton.profile import load_profile
    from baton.render import plain
    from baton.setup import Outcome, Step, set_up

    console = answers()

    def show(step: Step) -> None:
        if as_json:
            return
        style = _STYLES[step.outcome.value]
        console.print(f"[{style}]{step.outcome.value:<8}[/] {step.kind:<13} {plain(step.name)}", soft_wrap=True)
        if step.detail:
            console.print(f"         {plain(step.detail)}", soft_wrap=True)
        if step.mend:
            console.print(f"         mend: {plain(step.mend)}", soft_wrap=True)

    profile = load_profile()
    profile.require_answers()
    steps = set_up(Connections(profile), show)
    if as_json:
        print_json([step.to_json() for step in steps])
    context.exit(EXIT_FAILED if any(step.outcome is Outcome.DIFFERS for step in steps) else EXIT_OK)
