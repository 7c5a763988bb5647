"""The rooms import only what the house's plan lets them."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("messages", "workers", "beam", "trainer", "serving", "deploy", "localcloud", "console", "baton", "bench")
# room -> rooms of ours that it may import besides itself
ALLOWED: dict[str, set[str]] = {
    "messages": set(),
    "workers": {"messages"},
    "beam": set(),
    "trainer": set(),
    "serving": set(),
    "localcloud": set(),
    "baton": {"messages", "workers"},
}
HEAVY = {"tensorflow": {"trainer"}, "keras": {"trainer"}, "apache_beam": {"beam"}}
STAGES = {"preprocess", "train", "deploy"}


def imports(path: Path) -> set[str]:
    """Return the dotted names that a file imports, at any depth."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"{path}: relative imports hide the room; write the whole name")
    return found


def files(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_a_room_imports_only_its_own_and_what_it_may(room: str) -> None:
    """The arrows between rooms point one way."""
    for path in files(room):
        rooms = {name.split(".")[0] for name in imports(path)} & set(ROOMS)
        assert rooms <= ALLOWED[room] | {room}, f"{path} imports {rooms - ALLOWED[room] - {room}}"


@pytest.mark.parametrize("library", sorted(HEAVY))
def test_heavy_libraries_stay_in_their_room(library: str) -> None:
    """Nobody else pays seconds and hundreds of MiB for them."""
    for room in ALLOWED:
        if room not in HEAVY[library]:
            for path in files(room):
                assert library not in {name.split(".")[0] for name in imports(path)}, path


def test_a_stage_never_imports_another_stage() -> None:
    """Stages meet in events alone."""
    for stage in STAGES:
        others = {f"workers.{other}" for other in STAGES - {stage}}
        assert not imports(ROOT / "workers" / f"{stage}.py") & others
