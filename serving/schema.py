"""Check instances against the schema that the training job wrote, and turn them into one array per field.

The schema is an OpenAPI 3.0.2 object; of it these words are used: properties, enum, minimum, maximum.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from serving.errors import Problem, StartError, invalid_argument, shown

_MOST_PROBLEMS = 10  # enough to mend a request by; a bad client's batch must not become a huge answer

Columns: TypeAlias = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class CategoryField:
    """A string, one of a few."""

    name: str
    values: frozenset[str]

    def is_valid(self, value: object) -> bool:
        return type(value) is str and value in self.values

    def explain(self, value: object) -> tuple[str, str]:
        """Problem and mend, for a value that is not valid."""
        known = ", ".join(json.dumps(known) for known in sorted(self.values))
        if type(value) is not str:
            return f"{_type_name(value)} where a string is needed", f"give one of: {known}"
        return "an unknown category", f"give one of: {known}"

    def array(self, values: list[Any]) -> npt.NDArray[Any]:
        return np.array(values, dtype=object)


@dataclass(frozen=True)
class NumberField:
    """A finite number within bounds, in the field's unit."""

    name: str
    minimum: float
    maximum: float
    unit: str

    def is_valid(self, value: object) -> bool:
        # A bool is an int to Python, not to JSON; NaN compares false with everything.
        return (type(value) is float or type(value) is int) and self.minimum <= value <= self.maximum

    def explain(self, value: object) -> tuple[str, str]:
        """Problem and mend, for a value that is not valid."""
        mend = f"give {self.minimum:g} to {self.maximum:g} {self.unit}".rstrip()
        if type(value) is str:
            return "a string where a number is needed", f"{mend}, without quotes"
        if type(value) is not int and type(value) is not float:
            return f"{_type_name(value)} where a number is needed", mend
        if isinstance(value, float) and not math.isfinite(value):
            return "not a finite number", mend
        return "out of range", mend

    def array(self, values: list[Any]) -> npt.NDArray[Any]:
        return np.array(values, dtype=np.float32)


Field: TypeAlias = CategoryField | NumberField


def _type_name(value: object) -> str:
    names = {bool: "a boolean", type(None): "null", dict: "an object", list: "a list", str: "a string"}
    return names.get(type(value), "a number")


@dataclass(frozen=True)
class InstanceSchema:
    """What one instance must look like.

    Attributes:
        example: a valid instance, with which the loaded model is tried once.
        label: what is predicted, with its unit.
    """

    title: str
    fields: tuple[Field, ...]
    example: dict[str, Any]
    label: str
    unit: str

    @classmethod
    def from_json(cls, text: bytes, place: str) -> "InstanceSchema":
        """Read `instance_schema.json`.

        Raises:
            StartError: it is not the schema of a model that this server can run.
        """
        try:
            document = json.loads(text)
            fields = tuple(_field(name, declared) for name, declared in document["properties"].items())
            prediction = document["x-prediction"]
            schema = cls(
                title=document["title"],
                fields=fields,
                example=document["example"],
                label=prediction["name"],
                unit=prediction["unit"],
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StartError(
                "the instance schema cannot be used",
                value=f"{type(error).__name__}: {error}",
                place=place,
                mend="export the model again with this version of the trainer",
            ) from error
        return schema

    def columns(self, instances: Sequence[object]) -> Columns:
        """One array per field, shape (instances,): float32 for numbers, objects for strings.

        Raises:
            RequestError: 400, naming index, field, value and mend of each problem (the first ten).
        """
        names = {field.name for field in self.fields}
        if not all(type(instance) is dict and instance.keys() == names for instance in instances):
            raise _refusal(self._shape_problems(instances, names))
        columns: Columns = {}
        problems: list[Problem] = []
        for field in self.fields:
            values = [instance[field.name] for instance in instances]  # type: ignore[index]  # all are dicts
            if all(map(field.is_valid, values)):
                columns[field.name] = field.array(values)
            else:
                problems += _value_problems(field, values)
        if problems:
            raise _refusal(problems)
        return columns

    def _shape_problems(self, instances: Sequence[object], names: set[str]) -> list[Problem]:
        listed = ", ".join(sorted(names))
        problems: list[Problem] = []
        for index, instance in enumerate(instances):
            if len(problems) >= _MOST_PROBLEMS:
                break
            if not isinstance(instance, dict):
                found = _type_name(instance)
                problems.append(
                    Problem(index, "", shown(instance), f"{found} where an object is needed", f"give {listed}")
                )
                continue
            for name in sorted(names - instance.keys()):
                field = next(field for field in self.fields if field.name == name)
                problems.append(Problem(index, name, "missing", "this field is required", field.explain(None)[1]))
            for name in sorted(instance.keys() - names):
                problems.append(
                    Problem(index, name, shown(instance[name]), "no such field", f"the fields are: {listed}")
                )
        return problems


def _field(name: str, declared: dict[str, Any]) -> Field:
    if declared["type"] == "string":
        return CategoryField(name, frozenset(declared["enum"]))
    if declared["type"] == "number":
        return NumberField(name, float(declared["minimum"]), float(declared["maximum"]), declared.get("x-unit", ""))
    raise ValueError(f"properties.{name}.type is {declared['type']!r}, not string or number")


def _value_problems(field: Field, values: list[Any]) -> list[Problem]:
    bad = [(index, value) for index, value in enumerate(values) if not field.is_valid(value)]
    return [Problem(index, field.name, shown(value), *field.explain(value)) for index, value in bad[:_MOST_PROBLEMS]]


def _refusal(problems: list[Problem]) -> Exception:
    problems = sorted(problems, key=lambda problem: problem.instance)[:_MOST_PROBLEMS]
    return invalid_argument(str(problems[0]), problems)
