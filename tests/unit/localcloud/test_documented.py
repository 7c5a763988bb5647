"""docs/localcloud.md says what is so: every door, variable, fault and module in it exists, and none is left out."""

import importlib.util
import re
from pathlib import Path

from localcloud import endpoints
from localcloud.faults import KINDS
from localcloud.parts import PARTS

TEXT = (Path(__file__).parents[3] / "docs" / "localcloud.md").read_text()


def test_every_door_is_documented() -> None:
    """Part names, door names and variables of the code are in the page."""
    for name in [*PARTS, *endpoints.PORT_NAMES]:
        assert f"`{name}`" in TEXT, name
        for variable in endpoints.variables(name, "127.0.0.1", 1):
            assert f"`{variable}`" in TEXT, variable


def test_every_fault_is_documented() -> None:
    """Each kind of fault is in the page's table, and no other."""
    table = TEXT[TEXT.index("| Kind |") : TEXT.index("`method` is")]
    first_cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`(\w+)`", " ".join(first_cells))) == KINDS


def test_every_command_exists() -> None:
    """Each `python -m` in the page names a module."""
    for module in set(re.findall(r"python -m ([\w.]+)", TEXT)):
        assert importlib.util.find_spec(f"{module}.__main__") or importlib.util.find_spec(module), module
