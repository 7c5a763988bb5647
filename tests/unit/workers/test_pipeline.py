"""A pipeline's TOML is checked whole, and a fault names line and mend."""

import errno
from pathlib import Path

import pytest

from messages import Parameters
from workers.errors import PipelineError, TransientError
from workers.pipeline import Catalog, load

GOOD = """name = "p"
[trigger]
prefix = "incoming/p/"

[parameters]
num_evals = 3
colour = "red"

[train]
image = "trainer"
attempts = 2
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "word"),
    [
        ("attempts = 2", "attempts = 0", 11, "greater than or equal to 1"),
        ("attempts = 2", "atempts = 2", 11, "not known"),
        ('image = "trainer"', "", 9, "missing"),
        ('name = "p"', 'name = "P"', 1, "pattern"),
        ('name = "p"', 'name = "q"', 1, "file's name"),
        ("num_evals = 3", "num_evals = 0", 6, "greater than 0"),
        ("num_evals = 3", "num_evals =", 6, "not TOML"),
    ],
)
def test_a_fault_names_its_line(tmp_path: Path, old: str, new: str, line: int, word: str) -> None:
    """Whoever edits the file is sent to the line, and told what to do."""
    path = tmp_path / "p.toml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(PipelineError) as refusal:
        load(path)
    text = str(refusal.value)
    assert word in text
    assert f"p.toml:{line}:" in text or f"line {line}" in text


def test_parameters_of_an_event_go_over_the_defaults(tmp_path: Path) -> None:
    """What the event sets wins; the rest is the pipeline's."""
    (tmp_path / "p.toml").write_text(GOOD)
    spec = Catalog(tmp_path).get("p")
    assert spec.resolve(Parameters.model_validate({"num_evals": 9})).given() == {"num_evals": 9, "colour": "red"}


@pytest.mark.parametrize("name", ["../p", "/etc/passwd", "P", "q"])
def test_a_name_from_an_event_never_becomes_a_path(tmp_path: Path, name: str) -> None:
    """Only names of files that are there are known."""
    (tmp_path / "p.toml").write_text(GOOD)
    with pytest.raises(PipelineError, match="unknown"):
        Catalog(tmp_path).get(name)


def test_the_longest_prefix_wins(tmp_path: Path) -> None:
    """Two pipelines may share a folder's beginning."""
    (tmp_path / "p.toml").write_text(GOOD)
    (tmp_path / "q.toml").write_text('name = "q"\n[trigger]\nprefix = "incoming/p/q/"\n')
    catalog = Catalog(tmp_path)
    found = [catalog.triggered_by(name) for name in ("incoming/p/x", "incoming/p/q/x", "x")]
    assert [spec.name if spec else None for spec in found] == ["p", "q", None]


def test_the_committed_pipelines_are_good() -> None:
    """Every pipeline that ships can be read."""
    catalog = Catalog(Path(__file__).parents[3] / "pipelines")
    assert "babyweight" in catalog.names()
    for name in catalog.names():
        assert catalog.get(name).name == name


def test_a_machine_that_can_read_no_file_is_no_fault_of_the_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event is given back and comes again; it does not go to the dead letters."""
    path = tmp_path / "p.toml"
    path.write_text(GOOD)

    def read_text(*_: object, **__: object) -> str:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Path, "read_text", read_text)
    with pytest.raises(TransientError, match="Too many open files"):
        Catalog(tmp_path).get("p")
