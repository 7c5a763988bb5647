"""The simulator bites: bugs put into the real code on purpose are caught, and their histories shrink."""

import pytest

from tests.simulation.planted import PLANTS
from tests.simulation.shrink import shrink
from tests.simulation.verdict import muted, try_scenario


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_bug_is_caught(name: str) -> None:
    """Within its bounded number of histories some promise is seen broken."""
    plant = PLANTS[name]
    with muted():
        assert any(try_scenario(scenario, plant.make).wrong for scenario in plant.scenarios()), name


def test_a_failing_history_shrinks_to_what_it_takes() -> None:
    """Of dozens of faults a few are left, and they break the same promise."""
    plant = PLANTS["claim without marker"]
    with muted():
        verdict = next(
            v for v in (try_scenario(s, plant.make) for s in plant.scenarios()) if len(v.happened) > 5 and v.wrong
        )
        smallest = shrink(verdict, plant.make)
    assert 1 <= len(smallest.happened) <= 3
    assert smallest.wrong[0].split(":")[0] == verdict.wrong[0].split(":")[0]
