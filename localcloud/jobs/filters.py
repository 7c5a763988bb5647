"""The filter language of Google's list methods and of Cloud Logging: parsed to a tree, tested by whoever lists.

AND, OR, NOT (also `-`), parentheses, two terms side by side mean AND. The odd rule, the same in AIP-160 and in the Logging
query language: OR binds *tighter* than AND, so `a AND b OR c` is `a AND (b OR c)`.
"""

import fnmatch
import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from localcloud.jobs.names import invalid, parse_timestamp
from localcloud.schema import snake

_TOKEN = re.compile(
    r"""\s*(?:(?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<op>=~|!~|!=|<=|>=|[=<>:])|(?P<paren>[()])|"""
    r"""(?P<dot>\.)|(?P<minus>-(?=[A-Za-z("]))|(?P<word>[^\s()=<>!:".']+))"""
)
_KEYWORDS = ("AND", "OR", "NOT")
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)|\d{4}-\d\d-\d\d")
_MAX_CHARS = 20_000


@dataclass(frozen=True, slots=True)
class Restriction:
    """`path op value`; a bare word is a restriction without an operator."""

    path: tuple[str, ...]
    op: str
    value: str


@dataclass(frozen=True, slots=True)
class Group:
    """AND, OR or NOT over its parts."""

    op: str
    parts: tuple["Node", ...]


Node = Restriction | Group
Test = Callable[[Restriction], bool]
Field = Callable[[Any], str]


def parse(text: str) -> Node | None:
    """Parse a filter; None when it is empty. Raises ApiError 400 that quotes the text and the place."""
    if len(text) > _MAX_CHARS:
        raise invalid(f"The filter has {len(text)} characters; at most {_MAX_CHARS} are allowed.")
    parser = _Parser(text)
    return parser.whole()


def matches(node: Node | None, test: Test) -> bool:
    """Say whether the tree holds, asking `test` for each restriction."""
    if node is None:
        return True
    if isinstance(node, Restriction):
        return test(node)
    if node.op == "NOT":
        return not matches(node.parts[0], test)
    if node.op == "OR":
        return any(matches(part, test) for part in node.parts)
    return all(matches(part, test) for part in node.parts)


def restrictions(node: Node | None) -> list[Restriction]:
    """Every restriction of the tree, wherever it stands."""
    if node is None:
        return []
    if isinstance(node, Restriction):
        return [node]
    return [found for part in node.parts for found in restrictions(part)]


class ResourceFilter:
    """The filter of one of Vertex AI's lists, asked for one resource after another.

    Args:
        text: the filter as the caller wrote it.
        fields: the fields one may filter by, in snake_case, and how to read each from a resource; times in RFC 3339.
        labels: how to read a resource's labels.

    Raises:
        ApiError: 400, the filter cannot be read or names an unknown field.
    """

    def __init__(
        self, text: str, fields: Mapping[str, Field], labels: Callable[[Any], Mapping[str, str]] | None = None
    ) -> None:
        self._node = parse(text)
        self._labels = labels or (lambda resource: resource["labels"])
        self._holds = self._compiled(self._node, fields)

    def __call__(self, resource: Any) -> bool:
        """Say whether the resource belongs into the list."""
        return self._holds(resource)

    def labels(self) -> dict[str, str]:
        """Return the labels, with their values, that every resource in the list has for certain."""
        return {
            ".".join(part.path[1:]): part.value
            for part in self._demanded()
            if isinstance(part, Restriction) and len(part.path) > 1 and part.path[0] == "labels" and _is_exact(part)
        }

    def one_of(self, name: str) -> frozenset[str] | None:
        """Return values of which a field has one, in every resource in the list; None where the filter demands none."""
        for part in self._demanded():
            choices = _choices(part)
            if choices is not None and choices[0] == name:
                return choices[1]
        return None

    def _demanded(self) -> tuple[Node, ...]:
        if isinstance(self._node, Group) and self._node.op == "AND":
            return self._node.parts
        return () if self._node is None else (self._node,)

    def _compiled(self, node: Node | None, fields: Mapping[str, Field]) -> Callable[[Any], bool]:
        """Return the tree as one function: a list asks it of every job; walking the tree was a tenth of a busy service."""
        if node is None:
            return lambda resource: True
        if isinstance(node, Restriction):
            return self._test(node, fields)
        parts = [self._compiled(part, fields) for part in node.parts]
        if node.op == "NOT":
            return lambda resource: not parts[0](resource)
        if node.op == "AND":
            return lambda resource: all(part(resource) for part in parts)
        if (choices := _choices(node)) is not None:
            read, values = fields[snake(choices[0])], choices[1]
            return lambda resource: read(resource) in values
        return lambda resource: any(part(resource) for part in parts)

    def _test(self, restriction: Restriction, fields: Mapping[str, Field]) -> Callable[[Any], bool]:
        if not restriction.op:
            raise invalid(f"Invalid filter: {restriction.value!r} stands alone; write FIELD OPERATOR VALUE.")
        head = snake(restriction.path[0])
        if head == "labels":
            return lambda resource: _label_test(restriction, self._labels(resource))
        if head not in fields or len(restriction.path) > 1:
            name = ".".join(restriction.path)
            known = ", ".join([*fields, "labels"])
            raise invalid(f"Invalid filter: field {name!r} is not supported; filter by {known}.")
        read = fields[head]
        return lambda resource: _compare(head, read(resource), restriction.op, restriction.value)


def _choices(node: Node) -> tuple[str, frozenset[str]] | None:
    """Return the field and the values where the node says `f="a" OR f="b" …`, or just `f="a"`; None for anything else.

    Times are compared as moments, not as texts, and labels have rules of their own: both are something else.
    """
    parts = node.parts if isinstance(node, Group) and node.op == "OR" else (node,)
    equalities = [part for part in parts if isinstance(part, Restriction) and part.op == "=" and len(part.path) == 1]
    names = {part.path[0] for part in equalities}
    if len(equalities) != len(parts) or len(names) != 1:
        return None
    name = names.pop()
    if name == "labels" or snake(name).endswith("_time"):
        return None
    return name, frozenset(part.value for part in equalities)


def _is_exact(restriction: Restriction) -> bool:
    return restriction.op == "=" or (restriction.op == ":" and restriction.value != "*")


def _label_test(restriction: Restriction, labels: Mapping[str, str]) -> bool:
    if len(restriction.path) == 1:  # labels:key
        if restriction.op != ":":
            raise invalid('Invalid filter: write labels.KEY="VALUE", labels.KEY:* or labels:KEY.')
        return restriction.value in labels
    key = ".".join(restriction.path[1:])
    if restriction.op == ":" and restriction.value == "*":
        return key in labels
    if restriction.op in ("=", ":"):
        return labels.get(key) == restriction.value
    if restriction.op == "!=":
        return labels.get(key) != restriction.value
    raise invalid(f"Invalid filter: operator {restriction.op!r} is not supported for labels; use =, != or :.")


def _compare(name: str, actual: str, op: str, value: str) -> bool:
    if op == ":":
        return fnmatch.fnmatchcase(actual, re.sub(r"([\[?])", r"[\1]", value))
    if op in ("=", "!="):
        same = moment(actual) == moment(value) if name.endswith("_time") else actual == value
        return same is (op == "=")
    if not name.endswith("_time"):
        raise invalid(f"Invalid filter: operator {op!r} is not supported for {name}; use =, != or :.")
    return ordered(moment(actual), op, moment(value))


def ordered(left: Any, op: str, right: Any) -> bool:
    """Apply one of < <= > >= = != to two comparable values."""
    return bool(
        {
            "<": left < right,
            "<=": left <= right,
            ">": left > right,
            ">=": left >= right,
            "=": left == right,
            "!=": left != right,
        }[op]
    )


@functools.lru_cache(maxsize=1024)
def moment(text: str) -> int:
    """Microseconds of a time in a filter, with or without its time of day; raises ApiError 400."""
    if _TIMESTAMP.fullmatch(text) is None:
        raise invalid(f"Invalid filter: {text!r} is no RFC 3339 time, such as 2026-01-31T12:00:00Z.")
    try:
        return parse_timestamp(text if "T" in text.upper() else text + "T00:00:00Z")
    except ValueError as error:
        raise invalid(f"Invalid filter: {text!r} is no time: {error}.") from error


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._split(text)
        self._at = 0

    def whole(self) -> Node | None:
        if not self._tokens:
            return None
        node = self._all()
        if self._at < len(self._tokens):
            raise self._wrong()
        return node

    def _split(self, text: str) -> list[tuple[str, str, int]]:
        tokens: list[tuple[str, str, int]] = []
        at, end = 0, len(text.rstrip())
        while at < end:
            found = _TOKEN.match(text, at)
            if found is None or found.lastgroup is None:
                raise invalid(f"Invalid filter {text!r}: cannot read it at position {at} ({text[at : at + 20]!r}).")
            kind = found.lastgroup
            value = found[kind]
            if kind == "quoted":
                value = re.sub(r"\\(.)", r"\1", value[1:-1])
            tokens.append((kind, value, found.start(kind)))
            at = found.end()
        return tokens

    def _all(self) -> Node:
        parts = [self._any()]
        while self._at < len(self._tokens) and self._peek() != ("paren", ")"):
            self._take("word", "AND")
            parts.append(self._any())
        return parts[0] if len(parts) == 1 else Group("AND", tuple(parts))

    def _any(self) -> Node:
        parts = [self._one()]
        while self._take("word", "OR"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else Group("OR", tuple(parts))

    def _one(self) -> Node:
        if self._take("word", "NOT") or self._take("minus", "-"):
            return Group("NOT", (self._one(),))
        if self._take("paren", "("):
            node = self._all()
            self._expect(")")
            return node
        path = [self._name()]
        while self._take("dot", "."):
            path.append(self._name())
        if self._peek()[0] != "op":
            return Restriction((), "", ".".join(path))
        op = self._next()[1]
        if self._take("paren", "("):
            return self._values(tuple(path), op)
        return Restriction(tuple(path), op, self._value())

    def _values(self, path: tuple[str, ...], op: str) -> Node:
        """`field=("a" OR "b")`."""
        parts: list[Node] = [Restriction(path, op, self._value())]
        joiner = "OR"
        while not self._take("paren", ")"):
            joiner = self._next()[1]
            if joiner not in ("AND", "OR"):
                raise self._wrong()
            parts.append(Restriction(path, op, self._value()))
        return Group(joiner, tuple(parts))

    def _name(self) -> str:
        kind, value = self._peek()
        if kind not in ("word", "quoted") or (kind == "word" and value in _KEYWORDS):
            raise self._wrong()
        return self._next()[1]

    def _value(self) -> str:
        """A quoted text, or bare words with dots and colons between them (`2026-01-31T12:00:00Z`, `1.5`)."""
        kind, value = self._peek()
        if kind not in ("word", "quoted", "minus"):
            raise self._wrong()
        start_kind, text, start = self._next()
        if start_kind == "quoted":
            return text
        end = start + len(text)
        while self._at < len(self._tokens):
            kind, value, at = self._tokens[self._at]
            if at != end or not (kind in ("word", "dot", "minus") or value == ":"):
                break
            text += value
            end = at + len(value)
            self._at += 1
        return text

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at][:2] if self._at < len(self._tokens) else ("end", "")

    def _next(self) -> tuple[str, str, int]:
        if self._at >= len(self._tokens):
            raise self._wrong()
        self._at += 1
        return self._tokens[self._at - 1]

    def _take(self, kind: str, value: str) -> bool:
        if self._peek() == (kind, value):
            self._at += 1
            return True
        return False

    def _expect(self, paren: str) -> None:
        if not self._take("paren", paren):
            raise self._wrong()

    def _wrong(self) -> Exception:
        at = self._tokens[self._at][2] if self._at < len(self._tokens) else len(self._text)
        return invalid(
            f"Invalid filter {self._text!r}: unexpected end or word at position {at} ({self._text[at:][:20]!r})."
        )
