"""The schemas of one discovery document: compiled when first used, they check a JSON value and canonicalise it.

Kept apart from routing (`discovery.py`). A schema not yet used is held as a short JSON text without its descriptions:
Vertex AI's 1,673 schemas cost a few hundred kilobytes instead of twenty megabytes.
"""

import base64
import binascii
import functools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

_INT_RANGES = {
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint64": (0, 2**64 - 1),
}
_TYPE_NAMES = {"string": "TYPE_STRING", "boolean": "TYPE_BOOL", "integer": "TYPE_INT32", "number": "TYPE_DOUBLE"}
_DATETIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")
_DURATION = re.compile(r"-?\d{1,12}(\.\d{1,9})?s")  # Duration's range is +-315,576,000,000 s: twelve digits
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_FIELD_MASK = re.compile(r"([\w*`./@-]+(,[\w*`./@-]+)*)?")
_REQUIRED = re.compile(r"(Immutable\. )?Required\.")
_MAX_DEPTH = 100  # Google's JSON parser refuses deeper messages too


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing wrong with a request: the field, as a proto path (`custom_job.job_spec`), and Google's sentence."""

    field: str
    description: str
    is_missing: bool = False


class ContractViolation(Exception):
    """A request or answer that the discovery document does not allow; carries every violation."""

    def __init__(self, violations: list[Violation]) -> None:
        self.violations = violations
        super().__init__(self.message)

    @property
    def message(self) -> str:
        """The violations as Google words them: one line each; missing fields as Vertex AI lists them."""
        lines = [v.description for v in self.violations if not v.is_missing]
        missing = [v for v in self.violations if v.is_missing]
        if missing:
            items = "\t".join(f"{n}.Field: {v.field}; Message: {v.description}" for n, v in enumerate(missing, 1))
            lines.append(f"List of found errors:\t{items}\t")
        return "\n".join(lines)

    def details(self) -> list[dict[str, Any]]:
        """The google.rpc.BadRequest that belongs into the error's `details`."""
        violations = [
            {k: v for k, v in (("field", v.field), ("description", v.description)) if v} for v in self.violations
        ]
        return [{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations}]


def camel(name: str) -> str:
    """`job_name` -> `jobName`; a name without underscores stays as it is."""
    return re.sub(r"_([a-z0-9])", lambda found: found.group(1).upper(), name)


@functools.lru_cache(maxsize=4096)  # asked for every field of every answer; a list of a thousand objects has thousands
def snake(name: str) -> str:
    """`jobName` -> `job_name`: how Google's error texts spell a field."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda found: "_" + found.group(1).lower(), name[:1].lower() + name[1:])


Check = Callable[[Any], bool]


class SchemaBook:
    """All schemas of one document, by name."""

    def __init__(self, schemas: Mapping[str, Mapping[str, Any]], *, keeps_null: bool = False) -> None:
        self._texts: dict[str, str] = {name: json.dumps(_slim(raw)) for name, raw in schemas.items()}
        self._compiled: dict[str, dict[str, Any]] = {}
        self._checks: dict[str, Check] = {}
        self._keeps_null = keeps_null

    def check_body(
        self, name: str, value: object, violations: list[Violation], *, demand: bool, is_response: bool = False
    ) -> Any:
        """Check a whole body and answer it canonical; `demand` asks for the fields marked "Required."."""
        prefix = "" if name.endswith(("Request", "Response")) else _field_of(name)
        walk = _Walk(self, violations, demand=demand, keeps_null=self._keeps_null or is_response)
        return walk.value({"$ref": name}, value, prefix, 0)

    def fits(self, name: str, value: object) -> bool:
        """Tell at a glance whether a value is right as it stands; False says no more than that it must be looked at.

        What we answer ourselves is right all but always. To know it takes a tenth of the time of a walk, which is there to
        name what is wrong and to bring odd spellings into the canonical form.
        """
        check = self._checks.get(name)
        if check is None:
            check = self._checks[name] = _check(self, self.schema(name))
        return check(value)

    def schema(self, name: str) -> dict[str, Any]:
        """Compile a schema on first use: parsed, with a table of every accepted spelling of its fields."""
        found = self._compiled.get(name)
        if found is None:
            found = json.loads(self._texts.pop(name))
            _add_aliases(found)
            self._compiled[name] = found
        return found


class _Walk:
    """One walk over one body: collects violations, answers the canonical form."""

    def __init__(self, book: SchemaBook, violations: list[Violation], *, demand: bool, keeps_null: bool) -> None:
        self._book = book
        self._violations = violations
        self._demand = demand
        self._keeps_null = keeps_null

    def value(self, spec: Mapping[str, Any], value: Any, place: str, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            self._violations.append(Violation(place, "Message too deep. Max recursion depth reached."))
            return None
        if "$ref" in spec:
            name = spec["$ref"]
            spec = self._book.schema(name)
            if spec.get("type") == "object" and "additionalProperties" not in spec:
                return self._object(spec, value, place, depth, name)
        kind = spec.get("type")
        if kind == "any" or value is None:
            return value
        if kind == "array":
            return self._array(spec, value, place, depth)
        if kind == "object":
            if "additionalProperties" in spec:
                return self._map(spec["additionalProperties"], value, place, depth)
            return self._object(spec, value, place, depth, "object")
        return scalar(spec, value, place, self._violations)

    def _object(self, spec: Mapping[str, Any], value: Any, place: str, depth: int, name: str) -> Any:
        if value is None:
            return None
        if not isinstance(value, dict):
            self._violations.append(Violation(place, f"Invalid value at '{place}' ({name}), {_show(value)}"))
            return None
        properties, aliases = spec["properties"], spec["aliases"]
        checked: dict[str, Any] = {}
        for given, item in value.items():
            key = given if given in properties else aliases.get(given)
            if key is None:
                self._violations.append(_unknown(given, place))
                continue
            if item is None and not self._keeps_null:
                continue
            checked[key] = self.value(properties[key], item, _join(place, snake(key)), depth + 1)
        if self._demand:
            for key in spec["required"]:
                if key not in checked or checked[key] in ("", []):
                    text = "Required field is not set."
                    self._violations.append(Violation(_join(place, snake(key)), text, is_missing=True))
        return checked

    def _array(self, spec: Mapping[str, Any], value: Any, place: str, depth: int) -> Any:
        if not isinstance(value, list):
            self._violations.append(Violation(place, f"Invalid value at '{place}' (repeated), {_show(value)}"))
            return None
        return [self.value(spec["items"], item, f"{place}[{n}]", depth + 1) for n, item in enumerate(value)]

    def _map(self, spec: Mapping[str, Any], value: Any, place: str, depth: int) -> Any:
        if not isinstance(value, dict):
            self._violations.append(Violation(place, f"Invalid value at '{place}' (map), {_show(value)}"))
            return None
        return {
            key: self.value(spec, item, f"{place}[{_show(key)}]", depth + 1)
            for key, item in value.items()
            if item is not None or self._keeps_null or spec.get("type") == "any"
        }


def _check(book: SchemaBook, spec: Mapping[str, Any]) -> Check:
    """Compile what `SchemaBook.fits` asks of one value: never true where a walk would find a violation."""
    if "$ref" in spec:
        return functools.partial(book.fits, spec["$ref"])  # compiled when first met: schemas refer to themselves
    kind = spec.get("type", "string")
    if kind == "any":
        return lambda value: True
    if kind == "array":
        item = _check(book, spec["items"])
        return lambda value: value.__class__ is list and all(map(item, value))
    if "additionalProperties" in spec:
        entry = _check(book, spec["additionalProperties"])
        return lambda value: value.__class__ is dict and all(map(entry, value.values()))
    if kind == "object":
        return functools.partial(
            _fits_object, {name: _check(book, inner) for name, inner in spec["properties"].items()}
        )
    return _scalar_check(spec, kind, spec.get("format", ""))


def _fits_object(checks: Mapping[str, Check], value: Any) -> bool:
    if value.__class__ is not dict:
        return False
    for name, item in value.items():
        check = checks.get(name)
        if check is None or not check(item):
            return False
    return True


def _scalar_check(spec: Mapping[str, Any], kind: str, form: str) -> Check:
    if "enum" in spec:
        names = frozenset(spec["enum"])
        return lambda value: value.__class__ is str and value in names
    if form in _INT_RANGES:
        low, high = _INT_RANGES[form]
        if kind == "integer":
            return lambda value: value.__class__ is int and low <= value <= high
        # Fewer digits than the range has: those near its ends, and negative ones, are left to the walk.
        longest = len(str(high)) - 1
        return lambda value: value.__class__ is str and value.isdecimal() and value.isascii() and len(value) <= longest
    if kind == "boolean":
        return lambda value: value.__class__ is bool
    if kind == "number":
        return lambda value: value.__class__ is float or value.__class__ is int
    if kind == "integer":
        return lambda value: value.__class__ is int
    return lambda value: value.__class__ is str and (not form or _well_formed(form, value))


def scalar(
    spec: Mapping[str, Any], value: Any, place: str, violations: list[Violation], *, in_query: bool = False
) -> Any:
    """Check one string, number or boolean and answer its canonical form.

    In a query everything arrives as text, and int64 becomes an int; in a body it stays a decimal string, as in proto3.
    """
    kind, form = spec.get("type", "string"), spec.get("format", "")
    result: Any
    if "enum" in spec:
        result = _enum(spec["enum"], value)
        kind_name = "enum " + "|".join(spec["enum"][:4]) + ("|…" if len(spec["enum"]) > 4 else "")
    elif form in _INT_RANGES:
        number = _integer(value, form)
        result = number if number is None or kind == "integer" or in_query else str(number)
        kind_name = f"TYPE_{form.upper()}"
    else:
        result = _plain(kind, form, value)
        kind_name = form.removeprefix("google-") if form and kind == "string" else _TYPE_NAMES.get(kind, kind)
    if result is None:
        violations.append(Violation(place, f"Invalid value at '{place}' ({kind_name}), {_show(value)}"))
    return result


def _plain(kind: str, form: str, value: Any) -> Any:
    if kind == "boolean":
        if isinstance(value, bool):
            return value
        return {"true": True, "false": False}.get(value) if isinstance(value, str) else None
    if kind in ("number", "integer"):
        return _number(value, whole=kind == "integer")
    if not isinstance(value, str):
        return None
    return value if _well_formed(form, value) else None


def _number(value: Any, *, whole: bool) -> Any:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            return None
        return value if number != number or number in (float("inf"), float("-inf")) else number
    if not isinstance(value, int | float) or (whole and value != int(value)):
        return None
    return value


def _integer(value: Any, form: str) -> int | None:
    low, high = _INT_RANGES[form]
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,20}", value):
        value = int(value)
    return value if isinstance(value, int) and low <= value <= high else None


def _enum(names: list[str], value: Any) -> Any:
    if isinstance(value, str) and value in names:
        return value
    if isinstance(value, str) and value.isdecimal() and len(value) < 10:
        value = int(value)
    # The documents give names only, in the order of their numbers: what a client with `enum-encoding=int` sends is
    # read by its place. Right for the states and views used here; an enum with a gap (Scheduling.strategy) is off past it.
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names):
        return names[value]
    return None


def _well_formed(form: str, value: str) -> bool:
    if form in ("google-datetime", "date-time"):
        return _is_datetime(value)
    if form == "google-duration":
        return _DURATION.fullmatch(value) is not None
    if form == "google-fieldmask":
        return _FIELD_MASK.fullmatch(value) is not None
    if form == "date":
        return _DATE.fullmatch(value) is not None
    if form == "byte":
        return _is_base64(value)
    return True


@functools.lru_cache(maxsize=1024)  # one answer says the same time in several fields
def _is_datetime(value: str) -> bool:
    if _DATETIME.fullmatch(value) is None:
        return False
    try:
        datetime.fromisoformat(value[:19].upper())
    except ValueError:
        return False
    return True


def _is_base64(value: str) -> bool:
    text = value.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _slim(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Drop all that checking does not need: descriptions are 80 % of a document."""
    kept: dict[str, Any] = {key: raw[key] for key in ("$ref", "type", "format", "enum") if key in raw}
    if "items" in raw:
        kept["items"] = _slim(raw["items"])
    if isinstance(raw.get("additionalProperties"), Mapping):
        kept["additionalProperties"] = _slim(raw["additionalProperties"])
    if "properties" in raw or (raw.get("type") == "object" and "additionalProperties" not in kept):
        properties = raw.get("properties", {})
        kept["properties"] = {name: _slim(item) for name, item in properties.items()}
        kept["required"] = [
            name
            for name, item in properties.items()
            if _REQUIRED.match(item.get("description", "")) and not item.get("readOnly")
        ]
    return kept


def _add_aliases(spec: dict[str, Any]) -> None:
    if "properties" in spec:
        names = spec["properties"]
        spec["aliases"] = {alias: name for name in names for alias in (snake(name), camel(name)) if alias != name}
        for item in names.values():
            _add_aliases(item)
    for key in ("items", "additionalProperties"):
        if key in spec:
            _add_aliases(spec[key])


@functools.lru_cache(maxsize=4096)
def _field_of(schema: str) -> str:
    return snake(re.sub(r"^GoogleCloud[A-Za-z]+?V\d+((alpha|beta)\d+)?(?=[A-Z])", "", schema))


def _unknown(name: str, place: str) -> Violation:
    at = f" at '{place}'" if place else ""
    return Violation(place, f'Invalid JSON payload received. Unknown name "{name}"{at}: Cannot find field.')


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _show(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 100 else text[:97] + "..."
