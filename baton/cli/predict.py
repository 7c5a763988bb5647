"""`baton predict`: ask the endpoint."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from baton.cli.common import answers, examples, json_option, pipeline_option, print_json
from baton.errors import Refused
from baton.render import plain

_MEND = 'give one like {"is_male": "True", "mother_age": 28, "plurality": "Single(1)", "gestation_weeks": 39}'


@click.command(
    epilog=examples(
        """baton predict --instance '{"is_male": "True", "mother_age": 28, "plurality": "Single(1)", """
        """"gestation_weeks": 39}'""",
        "baton predict --file instances.json --json",
        json_shape="{endpoint, predictions: […]}, one prediction for each instance",
    )
)
@pipeline_option
@click.option("--instance", "instances", multiple=True, metavar="JSON", help="One instance; repeat for more.")
@click.option(
    "--file",
    type=click.Path(path_type=Path, allow_dash=True),
    help='JSON: an instance, a list of them, or {"instances": […]}; - reads stdin.',
)
@json_option
def predict(pipeline: str, instances: tuple[str, ...], file: Path | None, as_json: bool) -> None:
    """Ask the pipeline's endpoint for predictions, over HTTP, as any client of Vertex AI would."""
    asked = [_parse(text, "--instance") for text in instances]
    if file is not None:
        asked.append(_parse(_read(file), f"--file {file}"))
    wanted = [instance for found in asked for instance in _instances(found)]
    if not wanted:
        raise Refused("no instance was given", _MEND.replace("give one", "give --instance or --file, one"))
    from baton.client import Client

    client = Client()
    predictions = client.predict(wanted, pipeline)
    if as_json:
        print_json({"endpoint": client.endpoint(pipeline), "predictions": predictions})
        return
    console = answers()
    for prediction in predictions:
        console.print(plain(prediction if isinstance(prediction, str) else json.dumps(prediction)), soft_wrap=True)


def _read(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise Refused(f"--file {file} cannot be read ({fault})", "give a readable file of JSON") from fault


def _parse(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as fault:
        raise Refused(f"{place} is not JSON ({fault})", _MEND) from fault


def _instances(found: Any) -> list[dict[str, Any]]:
    """Return the instances of what was given: one, a list, or a request's body."""
    if isinstance(found, dict) and isinstance(found.get("instances"), list):
        found = found["instances"]
    listed = found if isinstance(found, list) else [found]
    for instance in listed:
        if not isinstance(instance, dict):
            raise Refused(f"the instance {instance!r} is no JSON object", _MEND)
    return listed
