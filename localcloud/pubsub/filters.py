"""Subscription filters: which messages a subscription wants, by their attributes.

    filter     = operand { "AND" operand } | operand { "OR" operand }
    operand    = [ "NOT" | "-" ] operand | "(" filter ")" | comparison
    comparison = "attributes" ":" key
               | "attributes" "." key ( "=" | "!=" ) string
               | "hasPrefix" "(" "attributes" "." key "," string ")"
    key        = identifier | string

Mixing AND and OR needs parentheses. Words are case-sensitive. `!=` holds when the attribute is missing.
Source: cloud.google.com/pubsub/docs/subscription-message-filter.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from localcloud.pubsub import wire
from localcloud.pubsub.errors import InvalidArgument

MAX_FILTER_BYTES = 256
_MAX_DEPTH = 64

Attributes = Mapping[str, str]
Test = Callable[[Attributes], bool]

_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\\x00-\x1f]|\\.)*")|(?P<word>[A-Za-z_][A-Za-z0-9_]*)|(?P<sign>!=|[=:.,()\-]))""",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:x[0-9A-Fa-f]{2}|[0-7]{3}|.)", re.DOTALL)


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


def compile_filter(expression: str) -> Test:
    """A test of a message's attributes.

    Raises:
        InvalidArgument: the expression is too long or malformed; the message says where.
    """
    if len(expression.encode()) > MAX_FILTER_BYTES:
        raise InvalidArgument(f"a filter of {len(expression.encode())} bytes; use at most {MAX_FILTER_BYTES}.")
    return _Parser(expression).parse()


def compile_for_stored(expression: str) -> Callable[[bytes], bool]:
    """The same test over a serialised PubsubMessage."""
    test = compile_filter(expression)
    parse = wire.PubsubMessage.FromString
    return lambda body: test(parse(body).attributes)


class _Parser:
    def __init__(self, expression: str) -> None:
        self._expression = expression
        self._tokens = self._split()
        self._at = 0
        self._depth = 0

    def parse(self) -> Test:
        """The whole expression."""
        test = self._filter()
        token = self._tokens[self._at]
        if token.kind != "end":
            raise self._error("expected AND, OR or the end", token)
        return test

    def _split(self) -> list[_Token]:
        tokens: list[_Token] = []
        position = 0
        text = self._expression.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise self._error("unexpected character", _Token("", text[position:].strip()[:1], position))
            kind = match.lastgroup or ""
            tokens.append(_Token(kind, match[kind], match.start(kind)))
            position = match.end()
        tokens.append(_Token("end", "", len(text)))
        return tokens

    def _error(self, what: str, token: _Token) -> InvalidArgument:
        found = f"found {token.text[:40]!r}" if token.text else "found the end"
        return InvalidArgument(f"filter {self._expression[:300]!r}: {what} at character {token.at + 1}, {found}.")

    def _next(self) -> _Token:
        token = self._tokens[self._at]
        if token.kind != "end":
            self._at += 1
        return token

    def _peek_word(self) -> str:
        token = self._tokens[self._at]
        return token.text if token.kind == "word" else ""

    def _expect(self, sign: str) -> None:
        token = self._next()
        if token.kind != "sign" or token.text != sign:
            raise self._error(f"expected {sign!r}", token)

    def _filter(self) -> Test:
        first = self._operand()
        operator = self._peek_word()
        if operator not in ("AND", "OR"):
            return first
        tests = [first]
        while self._peek_word() in ("AND", "OR"):
            token = self._next()
            if token.text != operator:
                raise self._error("AND and OR are mixed; put one of them into parentheses", token)
            tests.append(self._operand())
        if operator == "AND":
            return lambda attributes: all(test(attributes) for test in tests)
        return lambda attributes: any(test(attributes) for test in tests)

    def _operand(self) -> Test:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._error(f"more than {_MAX_DEPTH} levels", self._tokens[self._at])
        try:
            token = self._next()
            if (token.text == "NOT" and token.kind == "word") or (token.text == "-" and token.kind == "sign"):
                inner = self._operand()
                return lambda attributes: not inner(attributes)
            if token.kind == "sign" and token.text == "(":
                inner = self._filter()
                self._expect(")")
                return inner
            if token.kind == "word" and token.text == "attributes":
                return self._attributes()
            if token.kind == "word" and token.text == "hasPrefix":
                return self._has_prefix()
            raise self._error("expected attributes, hasPrefix, NOT or a parenthesis", token)
        finally:
            self._depth -= 1

    def _attributes(self) -> Test:
        sign = self._next()
        if sign.kind == "sign" and sign.text == ":":
            key = self._key()
            return lambda attributes: key in attributes
        if sign.kind != "sign" or sign.text != ".":
            raise self._error("expected ':' or '.' after attributes", sign)
        key = self._key()
        operator = self._next()
        if operator.kind != "sign" or operator.text not in ("=", "!="):
            raise self._error("expected '=' or '!='", operator)
        value = self._string()
        if operator.text == "=":
            return lambda attributes: key in attributes and attributes[key] == value
        return lambda attributes: key not in attributes or attributes[key] != value

    def _has_prefix(self) -> Test:
        self._expect("(")
        token = self._next()
        if token.text != "attributes" or token.kind != "word":
            raise self._error("expected attributes", token)
        self._expect(".")
        key = self._key()
        self._expect(",")
        prefix = self._string()
        self._expect(")")
        return lambda attributes: key in attributes and attributes[key].startswith(prefix)

    def _key(self) -> str:
        token = self._next()
        if token.kind == "word":
            return token.text
        if token.kind == "string":
            return self._unescape(token)
        raise self._error("expected an attribute key", token)

    def _string(self) -> str:
        token = self._next()
        if token.kind != "string":
            raise self._error("expected a quoted string", token)
        return self._unescape(token)

    def _unescape(self, token: _Token) -> str:
        """JSON's escapes, and `\\xNN` and `\\NNN` as the service takes them."""

        def plain(match: re.Match[str]) -> str:
            text = match[0]
            if text[1] == "x" and len(text) == 4:
                return json.dumps(chr(int(text[2:], 16)))[1:-1]
            if len(text) == 4:
                return json.dumps(chr(int(text[1:], 8)))[1:-1]
            return "'" if text == "\\'" else text

        try:
            value = json.loads(_ESCAPE.sub(plain, token.text))
        except ValueError:
            raise self._error("a malformed escape", token) from None
        return str(value)
