"""Subscription filters."""

import pytest

from localcloud.pubsub.errors import InvalidArgument
from localcloud.pubsub.filters import compile_filter

WHOLE = {"stage": "train", "lang": "de-CH", "iana.org/language_tag": "de", "tab\tkey": "x", "empty": ""}


@pytest.mark.parametrize(
    "expression",
    [
        "attributes:stage",
        "attributes:empty",
        'attributes:"iana.org/language_tag"',
        'attributes.stage = "train"',
        'attributes.stage="train"',
        'attributes.stage != "serve"',
        'attributes.missing != "serve"',
        'hasPrefix(attributes.lang, "de")',
        'hasPrefix(attributes.lang, "")',
        'NOT attributes.stage = "serve"',
        "-attributes:missing",
        "NOT NOT attributes:stage",
        'attributes:stage AND attributes.lang = "de-CH" AND attributes:empty',
        "attributes:missing OR attributes:stage",
        "(attributes:missing OR attributes:stage) AND attributes:lang",
        'attributes:missing OR (attributes:stage AND NOT hasPrefix(attributes.lang, "fr"))',
        'attributes:"tab\\tkey"',
        'attributes.stage = "\\x74rain"',
        'attributes.stage = "\\u0074rain"',
        "  attributes:stage  ",
    ],
)
def test_matches(expression: str) -> None:
    """Each of these holds for the sample attributes."""
    assert compile_filter(expression)(WHOLE)


@pytest.mark.parametrize(
    "expression",
    [
        "attributes:Stage",
        'attributes.stage = "Train"',
        'attributes.stage != "train"',
        'attributes.missing = ""',
        'hasPrefix(attributes.missing, "")',
        'hasPrefix(attributes.lang, "De")',
        "NOT attributes:stage",
        "attributes:stage AND attributes:missing",
        "attributes:missing OR NOT attributes:stage",
    ],
)
def test_does_not_match(expression: str) -> None:
    """None of these holds; words and values are case-sensitive."""
    assert not compile_filter(expression)(WHOLE)


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("", "expected attributes"),
        ("attributes", "expected ':' or '.'"),
        ("attributes.stage", "expected '='"),
        ("attributes.stage = train", "quoted string"),
        ("attributes.stage = 'train'", "unexpected character"),
        ('attributes.stage = "train', "unexpected character"),
        ("attributes:a AND attributes:b OR attributes:c", "mixed"),
        ("attributes:a and attributes:b", "expected AND"),
        ("(attributes:a", r"expected '\)'"),
        ('data = "x"', "expected attributes"),
        ('hasPrefix("x", attributes.a)', "expected attributes"),
        ('attributes.a = "\\q"', "escape"),
        ("NOT " * 70 + "a", "at most 256"),
        ("-" * 100 + "attributes:a", "levels"),
        ('attributes.a = "' + "x" * 300 + '"', "256"),
    ],
)
def test_malformed_filter_is_refused_with_the_place(expression: str, complaint: str) -> None:
    """A malformed filter is INVALID_ARGUMENT and the message says where."""
    with pytest.raises(InvalidArgument, match=complaint):
        compile_filter(expression)
