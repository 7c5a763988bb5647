"""docs/pubsub.md says what the contract suite knows."""

import re
from pathlib import Path

_ROOT = Path(__file__).parents[3]


def test_every_difference_is_documented() -> None:
    """Each promise that Google's emulator breaks, by the suite's marks, is a row of the page; and there is no other row."""
    suite = "".join(path.read_text(encoding="utf-8") for path in (_ROOT / "tests/contract/pubsub").glob("*.py"))
    marked = set(re.findall(r'mark\.differs\("([^"]+)"\)', suite))
    page = (_ROOT / "docs/pubsub.md").read_text(encoding="utf-8")
    table = page.partition("## Where Google's emulator differs")[2].partition("\n## ")[0]
    rows = {line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")} - {"The emulator"}
    assert marked == rows


def test_every_option_is_documented() -> None:
    """Each option of the command line, but for the everyday ones, is in the page."""
    from localcloud.pubsub.__main__ import parser

    page = (_ROOT / "docs/pubsub.md").read_text(encoding="utf-8")
    options = {option for action in parser()._actions for option in action.option_strings if option.startswith("--")}
    assert {option for option in options - {"--help", "--host"} if option not in page} == set()
