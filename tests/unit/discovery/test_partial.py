"""Partial responses."""

from typing import Any

import pytest

from localcloud.partial import FieldsError, parse_fields, select

VALUE = {"items": [{"id": 1, "name": "a", "owner": {"id": 7, "mail": "x"}}], "next": "t", "kind": "k"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("next", {"next": "t"}),
        ("items(id,name),next", {"items": [{"id": 1, "name": "a"}], "next": "t"}),
        ("items/owner/mail", {"items": [{"owner": {"mail": "x"}}]}),
        ("items(id,owner(id))", {"items": [{"id": 1, "owner": {"id": 7}}]}),
        ("items/id,items/name", {"items": [{"id": 1, "name": "a"}]}),
        ("items/owner,items/owner/id", {"items": [{"owner": {"id": 7, "mail": "x"}}]}),
        ("*", VALUE),
        ("items/*/id", {"items": [{"owner": {"id": 7}, "id": 1, "name": "a"}]}),
        ("nothing", {}),
    ],
)
def test_selection(fields: str, expected: dict[str, Any]) -> None:
    """`fields` picks what it names, item by item in lists."""
    assert select(parse_fields(fields), VALUE) == expected


@pytest.mark.parametrize("fields", ["a(b", "a)", "(", "a,,b", "a/", "", "a(b))"])
def test_a_broken_selector_is_refused(fields: str) -> None:
    """A selector that cannot be read is an error that quotes it."""
    with pytest.raises(FieldsError, match="Invalid field selection"):
        parse_fields(fields)
