"""The command line: its table of commands. Each lives in a module of its own, loaded when it is called.

So `baton --help` is there at once, and a command pays only for the libraries that it uses.
"""

from importlib import import_module

import click

from baton.errors import EXIT_CODES_HELP

# command -> (module, attribute, what `baton --help` says); the order is the order in which a user meets them
COMMANDS: dict[str, tuple[str, str, str]] = {
    "demo": (
        "baton.cli.demo",
        "demo",
        "The main job, start to finish: new data becomes a served model, on this machine.",
    ),
    "up": ("baton.cli.up", "up", "Start the local cloud and the workers, in the foreground."),
    "setup": ("baton.cli.setup", "setup", "Create buckets, topics, subscriptions, notification and templates."),
    "doctor": ("baton.cli.doctor", "doctor", "Say what is wrong with the set-up, and the mend."),
    "publish": ("baton.cli.publish", "publish", "Start a run by publishing an event, from any stage."),
    "upload": ("baton.cli.publish", "upload", "Upload a file to the data bucket, whose notification starts a run."),
    "runs": ("baton.cli.runs", "runs", "List runs; show or watch one."),
    "logs": ("baton.cli.logs", "logs", "Show what a run's jobs wrote."),
    "backfill": ("baton.cli.backfill", "backfill", "Run a pipeline on many sources, a few at a time."),
    "cancel": ("baton.cli.cancel", "cancel", "Stop a run: its job now, its later stages for ever."),
    "retry": ("baton.cli.retry", "retry", "Try a failed or cancelled run again."),
    "replay": ("baton.cli.replay", "replay", "Play a past run again on the local cloud."),
    "dlq": ("baton.cli.dlq", "dlq", "Look at dead letters, mend them, send them back."),
    "audit": ("baton.cli.audit", "audit", "Account for every event that was published."),
    "pubsub": ("baton.cli.pubsub", "pubsub", "Look into topics and subscriptions: what waits, what is published."),
    "predict": ("baton.cli.predict", "predict", "Ask a pipeline's endpoint for predictions."),
    "pipelines": ("baton.cli.pipelines", "pipelines", "Check the pipelines' TOML files."),
}
EPILOG = f"""\b
examples:
  baton demo
  baton up
  baton publish data-ready --pipeline babyweight --source gs://my-data/births.csv --wait
  baton runs watch RUN
  baton predict --instance '{{"is_male": "True", "mother_age": 28, "plurality": "Single(1)", "gestation_weeks": 39}}'

\b
The cloud is the environment's (GOOGLE_CLOUD_PROJECT, BATON_BUCKET, …); with none set, the local one of `baton up`.

\b
{EXIT_CODES_HELP}
"""


class LazyGroup(click.Group):
    """A group that knows its commands by name and loads them when they are called."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[name]
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="baton", message="%(package)s %(version)s")
def baton() -> None:
    """An ML pipeline with no conductor: events in, a served model out, on a laptop or on Google Cloud."""
