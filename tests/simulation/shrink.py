"""Makes a failing history smaller: fewer faults, fewer runs, fewer workers, as long as it still breaks the same promise."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from tests.simulation.faults import Hit, Key
from tests.simulation.history import Script
from tests.simulation.scenario import Scenario
from tests.simulation.verdict import Verdict, try_scenario
from tests.simulation.worker import Make

_ROUNDS = 20


def shrink(verdict: Verdict, make: Make | None = None, say: Callable[[str], None] = lambda _: None) -> Verdict:
    """Return the smallest failing history that was found on the way down from `verdict` (in `muted`)."""
    promise = _promise(verdict)
    best = verdict
    for number in range(_ROUNDS):
        smaller = next(_failing(best, promise, make), None)
        if smaller is None:
            break
        best = smaller
        say(f"round {number + 1}: {len(best.happened)} faults, {len(best.scenario.runs)} runs")
    return best


def _failing(best: Verdict, promise: str, make: Make | None) -> Iterator[Verdict]:
    """Yield smaller histories that break the same promise, the boldest steps first."""
    for scenario, script in _smaller(best.scenario, dict(best.happened)):
        found = try_scenario(scenario, make, script)
        if any(wrong.startswith(promise) for wrong in found.wrong):
            yield found


def _smaller(scenario: Scenario, script: Script) -> Iterator[tuple[Scenario, Script]]:
    for chunk in _chunks(list(script.items())):
        yield scenario, {key: hit for key, hit in script.items() if (key, hit) not in chunk}
    for run in scenario.runs if len(scenario.runs) > 1 else ():
        yield replace(scenario, runs=tuple(other for other in scenario.runs if other is not run)), script
    for run in scenario.runs:
        plainer = replace(run, times=run.times[:1], cancel_at=None)
        if plainer != run:
            yield replace(scenario, runs=tuple(plainer if other is run else other for other in scenario.runs)), script
    for changed in (
        replace(scenario, kills=()),
        replace(scenario, nonsense=()),
        replace(scenario, is_slow=False),
        replace(scenario, workers=scenario.workers - 1),
    ):
        if changed != scenario and changed.workers:
            yield changed, script


def _chunks(items: list[tuple[Key, Hit]]) -> Iterator[list[tuple[Key, Hit]]]:
    """Yield what to leave out: halves, quarters … down to one fault at a time."""
    size = len(items)
    while size:
        for start in range(0, len(items), size):
            yield items[start : start + size]
        size //= 2


def _promise(verdict: Verdict) -> str:
    return verdict.wrong[0].split(":", 1)[0] + ":"
