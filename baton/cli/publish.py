"""`baton publish` and `baton upload`: start runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from baton.cli.common import (
    answers,
    examples,
    json_option,
    key_values,
    pipeline_option,
    print_json,
    timeout_option,
    wait_option,
)
from baton.errors import EXIT_FAILED, EXIT_OK, Refused

_SHAPE = "{run_id, topic}; with --wait the run, as `baton runs show --json` does"


def _event_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what every event takes."""
    for option in reversed(
        (
            pipeline_option,
            click.option("--param", "params", multiple=True, metavar="K=V", help="Set a parameter of the run; repeat."),
            click.option("--run-id", metavar="ID", help="Name the run yourself; publishing twice is then one run."),
            wait_option(),
            timeout_option,
            json_option,
        )
    ):
        command = option(command)
    return command


@click.group(epilog=examples("baton publish data-ready --source gs://my-data/births.csv", "baton publish --help"))
def publish() -> None:
    """Publish an event; any stage can be the start of a run."""


@publish.command(
    "data-ready",
    epilog=examples(
        "baton publish data-ready --source bq://baton-local.samples.natality --param limit=5000 --wait",
        "baton publish data-ready --pipeline babyweight --source gs://my-data/births.csv --run-id births-2022",
        json_shape=_SHAPE,
    ),
)
@click.option("--source", required=True, metavar="URI", help="gs://bucket/object or bq://project.dataset.table.")
@_event_options
def data_ready(source: str, **options: Any) -> None:
    """Say that new data can be read: the whole chain runs."""
    if not source.strip():
        raise Refused(f"--source {source!r} names no data", "give gs://bucket/object or bq://project.dataset.table")
    if "://" not in source or source.startswith("file://"):
        raise Refused(
            f"--source {source!r} is a path on this machine, which a job in the cloud cannot read",
            f"`baton upload {source}` puts it into the data bucket and starts the run by itself",
        )
    _publish("data-ready", lambda client, **given: client.publish_data_ready(source, **given), **options)


@publish.command(
    "preprocess-done",
    epilog=examples("baton publish preprocess-done --dataset gs://my-bucket/datasets/births --wait", json_shape=_SHAPE),
)
@click.option("--dataset", required=True, metavar="URI", help="Folder with manifest.json, gs://bucket/path.")
@_event_options
def preprocess_done(dataset: str, **options: Any) -> None:
    """Say that a dataset is ready: the run begins with training."""
    _publish("preprocess-done", lambda client, **given: client.publish_preprocess_done(dataset, **given), **options)


@publish.command(
    "train-done",
    epilog=examples("baton publish train-done --model gs://my-bucket/models/births --wait", json_shape=_SHAPE),
)
@click.option("--model", required=True, metavar="URI", help="Folder with the trained model, gs://bucket/path.")
@_event_options
def train_done(model: str, **options: Any) -> None:
    """Say that a trained model is there: the run begins with its rollout."""
    _publish("train-done", lambda client, **given: client.publish_train_done(model, **given), **options)


@click.command(
    epilog=examples(
        "baton upload samples/natality_2022.csv --wait",
        "baton upload births.parquet --pipeline babyweight",
        json_shape="{run_id, uri}; with --wait the run, as `baton runs show --json` does",
    )
)
@click.argument("file", type=click.Path(path_type=Path))
@pipeline_option
@wait_option()
@timeout_option
@json_option
def upload(file: Path, pipeline: str, wait: bool, timeout: float | None, as_json: bool) -> None:
    """Upload FILE below the pipeline's trigger prefix in the data bucket: the bucket's notification starts a run.

    The same file uploaded again is a new generation of the object, hence a new run.
    """
    from baton.client import Client

    client = Client()
    uploaded = client.upload(file, pipeline)
    _tell(client, uploaded.run_id, {"run_id": uploaded.run_id, "uri": uploaded.uri}, wait, timeout, as_json)


def _publish(
    topic: str,
    call: Callable[..., str],
    *,
    pipeline: str,
    params: tuple[str, ...],
    run_id: str | None,
    wait: bool,
    timeout: float | None,
    as_json: bool,
) -> None:
    from baton.cli.common import remarks
    from baton.client import Client
    from baton.render import plain
    from baton.runs import RunState

    given = key_values(params, "--param")
    client = Client()
    if run_id is not None and (known := client.look(run_id)).state is not RunState.WAITING:
        never = "nothing of it begins any more; give another --run-id"
        hint = never if known.state is RunState.CANCELLED else "a stage that was claimed is not begun again"
        remarks().print(f"note: run {plain(run_id)} is known already ({known.state.value}); {hint}", soft_wrap=True)
    run_id = call(client, pipeline=pipeline, params=given, run_id=run_id)
    _tell(client, run_id, {"run_id": run_id, "topic": topic}, wait, timeout, as_json)


def _tell(client: Any, run_id: str, answer: dict[str, str], wait: bool, timeout: float | None, as_json: bool) -> None:
    from baton.cli.runs import watch_to_end

    if wait:
        has_succeeded = watch_to_end(client, run_id, timeout, as_json)
        click.get_current_context().exit(EXIT_OK if has_succeeded else EXIT_FAILED)
    if as_json:
        print_json(answer)
        return
    console = answers()
    console.print(run_id)
    if console.is_terminal:
        console.print(f"[dim]watch it: baton runs watch {run_id}[/]")
