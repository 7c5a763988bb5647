"""Faults that can be switched on: late lists, lost answers, refusals, and jobs that double, dawdle or are pre-empted.

A rule names the calls it matches (a method id of the discovery document, `*` allowed) and what goes wrong. It fires
for a `count` of calls or with a seeded `probability`, so that a rehearsal can be repeated exactly. Rules come from a
file (`--faults FILE`, JSON or TOML, `{"rules": [...]}`) and, while running, from `/-/faults`: POST adds rules, PUT
replaces them, DELETE ends them, GET shows how often each fired.

| kind | what happens | fields |
|---|---|---|
| error | refused before anything is done | code (400, 404, 409, 429, 500, 503, …) |
| lost_answer | everything is done, then `code` is answered, or the connection is cut when `code` is 0 | code |
| drop | the connection is cut before anything is done | |
| delay | the call waits | delay_s |
| stale | a list leaves out what is younger than lag_s | lag_s |
| duplicate | one call makes two jobs (method: the creating one, Vertex AI only) | |
| slow | a job starts late (method: the creating one) | delay_s |
| preempt | a job's processes are killed after delay_s and started anew, as on a pre-empted machine (likewise) | delay_s |
"""

import fnmatch
import json
import random
import threading
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

CALL_KINDS = frozenset({"error", "lost_answer", "drop", "delay", "stale"})
JOB_KINDS = frozenset({"duplicate", "slow", "preempt"})
_ENDING_KINDS = frozenset({"error", "lost_answer", "drop"})
KINDS = CALL_KINDS | JOB_KINDS
_CODES = frozenset({0, 400, 401, 403, 404, 408, 409, 412, 429, 499, 500, 501, 502, 503, 504})


class FaultError(ValueError):
    """A fault rule that cannot be used; names the rule, the field and the mend."""


@dataclass(slots=True)
class Fault:
    """One rule. Without `count` and `probability` it fires on every matching call."""

    method: str
    kind: str
    code: int = 503
    delay_s: float = 0.0
    lag_s: float = 5.0
    count: int | None = None
    skip: int = 0
    probability: float = 1.0
    seed: int = 0
    message: str = ""
    seen: int = 0
    fired: int = 0
    _random: random.Random = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise FaultError(f"fault kind {self.kind!r} for {self.method!r} is unknown; choose one of {sorted(KINDS)}.")
        if self.code not in _CODES:
            raise FaultError(f"fault code {self.code} for {self.method!r} is unknown; choose one of {sorted(_CODES)}.")
        if not 0 <= self.probability <= 1:
            raise FaultError(f"fault probability {self.probability} for {self.method!r} must lie from 0 to 1.")
        for name in ("delay_s", "lag_s", "skip"):
            if getattr(self, name) < 0:
                raise FaultError(f"fault {name}={getattr(self, name)} for {self.method!r} must not be negative.")
        if self.kind == "error" and self.code == 0:
            raise FaultError(f"fault code 0 for {self.method!r} means a cut connection; use kind 'drop' for that.")
        self._random = random.Random(self.seed)  # noqa: S311 - a rehearsal, not a secret

    def matches(self, method_id: str) -> bool:
        """Say whether the rule is about this method."""
        return fnmatch.fnmatchcase(method_id, self.method)

    def take(self) -> bool:
        """Count one matching call; True when the fault happens to it."""
        self.seen += 1
        if self.seen <= self.skip or (self.count is not None and self.fired >= self.count):
            return False
        if self.probability < 1 and self._random.random() >= self.probability:
            return False
        self.fired += 1
        return True

    def view(self) -> dict[str, Any]:
        """The rule and its counts, as `/-/faults` shows it."""
        return {key: value for key, value in asdict(self).items() if not key.startswith("_") and value is not None}


class Faults:
    """The rules in force. One object is shared by all parts of a process; safe to use from threads."""

    def __init__(self, rules: Iterable[Fault] = ()) -> None:
        self._lock = threading.Lock()
        self._rules = list(rules)

    @classmethod
    def load(cls, path: Path) -> "Faults":
        """Read rules from a JSON or TOML file; raises FaultError with the file's name."""
        try:
            raw = path.read_text(encoding="utf-8")
            document = tomllib.loads(raw) if path.suffix == ".toml" else json.loads(raw)
            return cls(parse_rules(document))
        except (OSError, ValueError) as error:
            raise FaultError(f"cannot use the fault file {path}: {error}") from error

    def replace(self, rules: Iterable[Fault]) -> None:
        """Put these rules in force instead of the present ones."""
        with self._lock:
            self._rules = list(rules)

    def add(self, rules: Iterable[Fault]) -> None:
        """Put these rules in force after the present ones."""
        with self._lock:
            self._rules.extend(rules)

    def take(self, method_id: str, kinds: frozenset[str] = CALL_KINDS) -> list[Fault]:
        """Return the faults that happen to this call now, counted as fired.

        At most one of each kind, and at most one that decides the answer: two rules of `count` 1 hit two calls.
        """
        with self._lock:
            taken: dict[str, Fault] = {}
            for rule in self._rules:
                slot = "answer" if rule.kind in _ENDING_KINDS else rule.kind
                if rule.kind in kinds and slot not in taken and rule.matches(method_id) and rule.take():
                    taken[slot] = rule
            return list(taken.values())

    def view(self) -> dict[str, Any]:
        """All rules with their counts."""
        with self._lock:
            return {"rules": [rule.view() for rule in self._rules]}


def parse_rules(document: object) -> list[Fault]:
    """Read `{"rules": [{"method": …, "kind": …}, …]}`.

    Raises:
        FaultError: naming the rule and the field.
    """
    rules = document.get("rules") if isinstance(document, Mapping) else None
    if not isinstance(rules, list):
        raise FaultError('expected {"rules": [{"method": "…", "kind": "…"}, …]}.')
    return [_parse_rule(number, rule) for number, rule in enumerate(rules)]


def _parse_rule(number: int, rule: object) -> Fault:
    types: dict[str, tuple[type, ...]] = {
        "method": (str,), "kind": (str,), "code": (int,), "delay_s": (int, float), "lag_s": (int, float),
        "count": (int,), "skip": (int,), "probability": (int, float), "seed": (int,), "message": (str,),
    }  # fmt: skip
    if not isinstance(rule, Mapping):
        raise FaultError(f"rules[{number}] is {rule!r}; expected an object.")
    for key, value in rule.items():
        if key not in types:
            raise FaultError(f"rules[{number}].{key} is unknown; the fields are {', '.join(types)}.")
        if not isinstance(value, types[key]) or isinstance(value, bool):
            raise FaultError(f"rules[{number}].{key}={value!r} is not a {types[key][0].__name__}.")
    for key in ("method", "kind"):
        if key not in rule:
            raise FaultError(f"rules[{number}].{key} is missing.")
    return Fault(**{key: rule[key] for key in rule})
