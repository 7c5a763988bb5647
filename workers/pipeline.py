"""Reads `pipelines/<name>.toml`: what one model's stages run, and with which defaults.

The file is read anew for every claim (it is small), so an edit counts from the next run on; a run in flight keeps the
configuration it was claimed with, which the ledger holds.
"""

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from messages.events import Parameters, PipelineName
from workers.errors import PipelineError, TransientError

Scalar = str | int | float | bool
ImageName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._/:@-]{0,254}$")]


_WRONG_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class _Attempted(_Section):
    attempts: Annotated[int, Field(ge=1, le=20)] = 2
    deadline_s: Annotated[float, Field(gt=0)] = 86_400.0


class TriggerSection(_Section):
    """Which new objects start a run: those under `prefix` in the data bucket."""

    prefix: Annotated[str, Field(min_length=1)]


class PreprocessSection(_Attempted):
    """The Dataflow flex template, and what is passed to it besides source, output, limit and run id."""

    template: Annotated[str, Field(min_length=1)]
    options: dict[str, Scalar] = {}
    max_workers: Annotated[int, Field(ge=1, le=4000)] = 4
    machine_type: str | None = None


class TrainSection(_Attempted):
    """The Vertex AI custom job: image, machine, and further flags of the trainer."""

    image: ImageName
    machine_type: str = "n1-standard-4"
    accelerator_type: str | None = None
    accelerator_count: Annotated[int, Field(ge=0, le=16)] = 0
    replicas: Annotated[int, Field(ge=1, le=64)] = 1
    options: dict[str, Scalar] = {}


class DeploySection(_Attempted):
    """The serving container and the endpoint it goes to."""

    image: ImageName
    endpoint: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,61}[a-z0-9]$")]
    machine_type: str = "n1-standard-2"
    min_replicas: Annotated[int, Field(ge=1, le=100)] = 1
    max_replicas: Annotated[int, Field(ge=1, le=100)] = 1
    predict_route: Annotated[str, Field(pattern=r"^/")] = "/predict"
    health_route: Annotated[str, Field(pattern=r"^/")] = "/health"
    port: Annotated[int, Field(ge=1024, le=65535)] = 8080
    tolerance: Annotated[float, Field(ge=0)] = 1e-3


class PipelineSpec(_Section):
    """One pipeline, whole; `parameters` are the defaults of what an event may set."""

    name: PipelineName
    description: str = ""
    parameters: dict[str, Scalar] = {}
    trigger: TriggerSection | None = None
    preprocess: PreprocessSection | None = None
    train: TrainSection | None = None
    deploy: DeploySection | None = None

    def resolve(self, given: Parameters) -> Parameters:
        """Return the parameters of a run: what the event gave over this pipeline's defaults.

        Raises:
            PipelineError: the event names a parameter that neither Baton nor this pipeline knows.
        """
        known = set(Parameters.model_fields) | set(self.parameters)
        for name in given.given():
            if name not in known:
                close = difflib.get_close_matches(name, sorted(known), n=1)
                hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(known))}."
                raise PipelineError(
                    f"parameter {name!r} is not one of pipeline {self.name!r}; {hint} "
                    f"Or declare it under [parameters] in {self.name}.toml"
                )
        return Parameters.model_validate({**self.parameters, **given.given()})


class Catalog:
    """The pipelines of one folder.

    Args:
        folder: where `<name>.toml` lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """Return the names of all pipelines there, sorted."""
        return sorted(path.stem for path in self._folder.glob("*.toml"))

    def get(self, name: str) -> PipelineSpec:
        """Read one pipeline.

        Raises:
            PipelineError: none of that name, or its TOML is wrong.
        """
        names = self.names()
        if name not in names:  # membership first: a name from an event never becomes a path by itself
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(names) or 'none'}."
            raise PipelineError(
                f"pipeline {name!r} is unknown in {self._folder}; {hint} Add {self._folder}/{name}.toml to make it"
            )
        return load(self._folder / f"{name}.toml")

    def triggered_by(self, object_name: str) -> PipelineSpec | None:
        """Return the pipeline whose trigger prefix is the longest that `object_name` begins with, or None."""
        specs = [self.get(name) for name in self.names()]
        matching = [s for s in specs if s.trigger is not None and object_name.startswith(s.trigger.prefix)]
        return max(matching, key=lambda s: len(s.trigger.prefix if s.trigger else ""), default=None)


def load(path: Path) -> PipelineSpec:
    """Read and check one pipeline's TOML.

    Raises:
        PipelineError: names the file, the line, the value and the mend.
        TransientError: this machine cannot read any file now.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (*_WRONG_FILE, UnicodeDecodeError) as fault:
        raise PipelineError(f"{path} cannot be read ({fault}); write it in UTF-8, readable by the worker") from fault
    except OSError as fault:  # too many open files, a disk that is away: no fault of the event that asks for it
        raise TransientError(f"{path} cannot be read now ({fault})") from fault
    try:
        body = tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        raise PipelineError(f"{path} is not TOML: {fault}; mend that line") from fault
    return parse(body, text, path)


def parse(body: Mapping[str, Any], text: str, path: Path) -> PipelineSpec:
    """Check a pipeline's content; `text` and `path` are for the error's place."""
    try:
        spec = PipelineSpec.model_validate(body)
        Parameters.model_validate(spec.parameters)
    except ValidationError as fault:
        first = fault.errors(include_url=False)[0]
        keys = [str(part) for part in first["loc"]]
        if keys and keys[0] in spec_parameters(body):
            keys = ["parameters", *keys]
        raise PipelineError(
            f"{path}:{_line(text, keys)}: {'.'.join(keys)} = {first['input']!r}: {_mend(first)}"
        ) from fault
    if spec.name != path.stem:
        raise PipelineError(
            f"{path}:{_line(text, ['name'])}: name = {spec.name!r} differs from the file's name; call it {path.stem!r}"
        )
    return spec


def spec_parameters(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the [parameters] table, or an empty one where it is missing or no table."""
    table = body.get("parameters", {})
    return table if isinstance(table, Mapping) else {}


def _mend(fault: Any) -> str:
    if fault["type"] == "extra_forbidden":
        return "this key is not known; remove it or check its spelling"
    if fault["type"] == "missing":
        return "this key is missing; add it"
    return str(fault["msg"])


def _line(text: str, keys: list[str]) -> int:
    """Return the line (from 1) where the last of `keys` that appears is set, following tables; tomllib keeps no lines."""
    line, table = 1, ""
    wanted_table, key = ".".join(keys[:-1]), keys[-1] if keys else ""
    for number, row in enumerate(text.splitlines(), start=1):
        header = re.match(r"^\s*\[\s*([^\]]+?)\s*\]", row)
        if header:
            table = header.group(1)
            if table in (wanted_table, ".".join(keys)):
                line = number
        elif table == wanted_table and re.match(rf"""^\s*["']?{re.escape(key)}["']?\s*=""", row):
            return number
    return line
