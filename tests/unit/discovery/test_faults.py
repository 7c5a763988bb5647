"""Fault rules."""

import json
from pathlib import Path
from typing import Any

import pytest

from localcloud.faults import Fault, FaultError, Faults, parse_rules


def fired(faults: Faults, method_id: str, calls: int) -> list[list[str]]:
    return [[fault.kind for fault in faults.take(method_id)] for _ in range(calls)]


def test_a_count_fires_that_often() -> None:
    """A rule with a count fires for that many matching calls, after those it skips."""
    faults = Faults([Fault("a.b.*", "error", count=2, skip=1)])
    assert fired(faults, "a.b.c", 5) == [[], ["error"], ["error"], [], []]
    assert fired(faults, "a.x", 1) == [[]]
    assert faults.view()["rules"][0]["seen"] == 5


def test_a_probability_is_seeded() -> None:
    """A rule with a probability fires the same way for the same seed."""
    runs = [fired(Faults([Fault("*", "drop", probability=0.5, seed=7)]), "m", 100) for _ in range(2)]
    assert runs[0] == runs[1]
    assert 25 < sum(bool(kinds) for kinds in runs[0]) < 75


def test_one_fault_decides_the_answer() -> None:
    """Two rules that would decide the answer hit two calls; a delay may come with either."""
    faults = Faults([Fault("*", "drop", count=1), Fault("*", "error", count=1), Fault("*", "delay", delay_s=1)])
    assert fired(faults, "m", 3) == [["drop", "delay"], ["error", "delay"], ["delay"]]


def test_job_faults_wait_for_jobs() -> None:
    """A fault of a job is not used up by the calls of the front end."""
    faults = Faults([Fault("m", "preempt", count=1)])
    assert faults.take("m") == []
    assert [fault.kind for fault in faults.take("m", frozenset({"preempt"}))] == ["preempt"]


@pytest.mark.parametrize(
    ("rule", "fragment"),
    [
        ({"method": "m", "kind": "explode"}, "explode"),
        ({"method": "m", "kind": "error", "code": 418}, "418"),
        ({"method": "m", "kind": "error", "code": 0}, "drop"),
        ({"method": "m", "kind": "drop", "probability": 2}, "probability 2"),
        ({"method": "m", "kind": "delay", "delay_s": -1}, "delay_s"),
        ({"method": "m", "kind": "drop", "colour": 1}, "rules[0].colour"),
        ({"method": "m", "kind": "drop", "count": "two"}, "rules[0].count"),
        ({"kind": "drop"}, "rules[0].method"),
        ("drop", "rules[0]"),
    ],
)
def test_a_wrong_rule_is_named(rule: Any, fragment: str) -> None:
    """A rule that cannot be used names its field."""
    with pytest.raises(FaultError, match=fragment.replace("[", r"\[")):
        parse_rules({"rules": [rule]})


@pytest.mark.parametrize("suffix", [".json", ".toml"])
def test_files(tmp_path: Path, suffix: str) -> None:
    """Rules come from JSON and from TOML."""
    path = tmp_path / f"faults{suffix}"
    text = '[[rules]]\nmethod = "m"\nkind = "drop"\n' if suffix == ".toml" else None
    path.write_text(text or json.dumps({"rules": [{"method": "m", "kind": "drop"}]}))
    assert [fault.kind for fault in Faults.load(path).take("m")] == ["drop"]
    path.write_text("nonsense")
    with pytest.raises(FaultError, match=path.name):
        Faults.load(path)
