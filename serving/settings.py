"""The server's settings: Vertex AI's variables, and flags that win over them.

The address is not part of Vertex AI's variables: its contract wants 0.0.0.0 inside a container, while a server started on a
laptop must not be reachable from the network. So loopback is the default, and the container file gives --host 0.0.0.0.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from serving.errors import StartError

_EPILOG = """\
example:
  AIP_STORAGE_URI=model AIP_HTTP_PORT=8080 python -m serving
  curl -d '{"instances": [{"is_male": "True", "mother_age": 26.6, "plurality": "Single(1)", "gestation_weeks": 37}]}' \\
      http://127.0.0.1:8080/predict

exit codes: 0 ended by a signal; 2 cannot serve, the last log line says why
"""

# Name, variable, default, help: the one table from which flags and --help are made.
_SETTINGS = (
    ("storage_uri", "AIP_STORAGE_URI", "", "directory of the exported model (local or gs://)"),
    ("port", "AIP_HTTP_PORT", "8080", "port to listen on; 0 takes a free one and logs it"),
    ("health_route", "AIP_HEALTH_ROUTE", "/health", "path that answers 200 once the model is loaded"),
    ("predict_route", "AIP_PREDICT_ROUTE", "/predict", "path that takes instances"),
    ("host", "BATON_SERVING_HOST", "127.0.0.1", "address to listen on; a container needs 0.0.0.0"),
    (
        "max_body_bytes",
        "BATON_SERVING_MAX_BODY_BYTES",
        "1500000",
        "largest request body; Vertex AI's own limit is 1.5 MB",
    ),
)


@dataclass(frozen=True)
class Settings:
    """See the table above for units and meaning."""

    storage_uri: str
    port: int
    health_route: str
    predict_route: str
    host: str
    max_body_bytes: int


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise StartError("the command line is wrong", value=message, place="flags", mend="see --help")


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Read flags and environment.

    Raises:
        StartError: one of them cannot be used.
    """
    parser = _Parser(
        prog="python -m serving",
        description="Serve one trained model over HTTP.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for name, variable, default, what in _SETTINGS:
        flag = "--" + name.replace("_", "-")
        # An empty variable counts as unset: Vertex AI sets AIP_STORAGE_URI="" for a model without artifacts.
        value = environment.get(variable) or default
        parser.add_argument(flag, default=value, help=f"{what} (${variable}, default: {default or 'none'})")
    given = vars(parser.parse_args(arguments))
    if not given["storage_uri"]:
        raise StartError(
            "no model directory is given",
            value="",
            place="AIP_STORAGE_URI or --storage-uri",
            mend="set it to the directory that the training job exported to",
        )
    return Settings(
        storage_uri=given["storage_uri"],
        port=_whole_number(given["port"], "AIP_HTTP_PORT or --port", 0, 65_535),
        health_route=_route(given["health_route"], "AIP_HEALTH_ROUTE or --health-route"),
        predict_route=_route(given["predict_route"], "AIP_PREDICT_ROUTE or --predict-route"),
        host=given["host"],
        max_body_bytes=_whole_number(
            given["max_body_bytes"], "BATON_SERVING_MAX_BODY_BYTES or --max-body-bytes", 1, 1 << 31
        ),
    )


def _whole_number(text: str, place: str, floor: int, ceiling: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = floor - 1
    if not floor <= value <= ceiling:
        raise StartError(
            "this is not a number in range", value=text, place=place, mend=f"give {floor} to {ceiling}"
        ) from None
    return value


def _route(path: str, place: str) -> str:
    if not path.startswith("/") or "{" in path:
        raise StartError("this is not a path", value=path, place=place, mend="give for example /predict")
    return path
