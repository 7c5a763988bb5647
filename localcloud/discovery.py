"""Google's discovery documents as a contract: which method a request means, and whether it may be sent at all.

The documents ship inside `google-api-python-client`; they are read as plain JSON, the client itself is never imported.
A reader must know four odd rules of Google's JSON front end, all kept here:

- Routes are matched on the *raw* path: `%2F` inside an object's name is not a separator.
- A field may be spelt `jobName` or `job_name`, an enum may be a name or a number, an int64 may be a string or a number.
  `check_request` answers the *canonical* form (the document's spelling, names for enums, strings for int64 in bodies).
- What is required is not marked: only the description begins with "Required.".
- In One Platform APIs (Vertex AI, Dataflow, Logging) null means "not given"; in the older ones (Storage, BigQuery)
  null in a patch means "delete", so there it is kept.
"""

import functools
import importlib.util
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

from localcloud.schema import ContractViolation, SchemaBook, Violation, camel, scalar

__all__ = ["ContractViolation", "Discovery", "Match", "Violation"]

# Parameters of Google's front end itself; `$name` is an alias of each (the GAPIC REST clients use `$alt`).
_SYSTEM_PARAMETERS = frozenset(
    {"$.xgafv", "access_token", "alt", "callback", "fields", "key", "oauth_token", "prettyPrint"}
    | {"quotaUser", "trace", "uploadType", "upload_protocol", "userIp"}
)
# Added by a resumable upload session and by signed URLs; no document lists them.
_UPLOAD_PARAMETERS = frozenset({"upload_id", "uploadType"})


@dataclass(frozen=True, slots=True)
class Method:
    """One method of an API, as the document describes it."""

    id: str
    http_method: str
    path: str
    parameters: dict[str, dict[str, Any]]
    request: str | None
    response: str | None
    is_upload: bool
    is_download: bool
    required_query: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Match:
    """Which method a request means, and its path parameters, decoded.

    `media` says whose bytes are not JSON: "upload", "resumable", "download", "raw" (any body and any answer), or "".
    """

    method_id: str
    path_params: Mapping[str, str]
    method: Method = field(repr=False)
    media: str = ""


@dataclass(frozen=True, slots=True)
class _Route:
    pattern: re.Pattern[str]
    names: tuple[str, ...]
    checks: tuple[re.Pattern[str] | None, ...]
    method: Method
    media: str


class _Node:
    """One segment of the routing trie: literal children, a wildcard child, and the routes that end here."""

    __slots__ = ("children", "routes")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.routes: dict[str, list[_Route]] = {}


class Discovery:
    """One API's document: routing, and the check of requests and answers."""

    def __init__(self, document: Mapping[str, Any], *, ignore_unknown_query: bool = False) -> None:
        self.name: str = document["name"]
        self.version: str = document["version"]
        self.revision: str = document.get("revision", "")
        self._ignore_unknown_query = ignore_unknown_query
        self._keeps_null = bool(document.get("servicePath"))
        self._book = SchemaBook(document.get("schemas", {}), keeps_null=self._keeps_null)
        self.methods: dict[str, Method] = {}
        self._root = _Node()
        self._matched = functools.lru_cache(maxsize=64)(self._match)  # most requests go to the same few paths
        prefix = "/" + document.get("servicePath", "")
        for raw in _methods(document):
            self._add(prefix, raw)

    @classmethod
    def load(cls, name: str, version: str, *, ignore_unknown_query: bool = False) -> "Discovery":
        """Read `<name>.<version>.json` from the installed google-api-python-client.

        Raises:
            FileNotFoundError: the client is not installed, or ships no such document.
        """
        path = document_path(name, version)
        return cls(json.loads(path.read_bytes()), ignore_unknown_query=ignore_unknown_query)

    def match(self, http_method: str, raw_path: str) -> Match | None:
        """Say which method this request means; None when the API has none there.

        A decoded parameter that no longer fits its pattern (`customJobs/..%2F..%2Fx`) matches nothing.
        The answer may be another caller's as well: nobody may change it.
        """
        return self._matched(http_method, raw_path)

    def _match(self, http_method: str, raw_path: str) -> Match | None:
        path = raw_path.removeprefix("/")
        segments = path.split("/")
        for tokens in _tokenisations(segments):
            for route in self._find(self._root, tokens, 0, http_method):
                found = route.pattern.fullmatch(path)
                if found is None:
                    continue
                values = [unquote(value) for value in found.groups()]
                if all(check is None or check.fullmatch(v) for check, v in zip(route.checks, values, strict=True)):
                    return Match(
                        route.method.id,
                        MappingProxyType(dict(zip(route.names, values, strict=True))),
                        route.method,
                        route.media,
                    )
        return None

    def check_request(
        self, match: Match, query: Iterable[tuple[str, str]] | Mapping[str, str], body: object = None
    ) -> tuple[dict[str, Any], Any]:
        """Check a request and bring it into canonical form.

        Args:
            match: what `match` answered.
            query: the decoded query, as pairs (repeated names allowed) or a mapping.
            body: the decoded JSON body; None when the request has none (uploads check theirs with `check_body`).

        Returns:
            The query parameters of the method (typed: int, bool, list for repeated) and the canonical body.

        Raises:
            ContractViolation: with every violation found, in Google's words.
        """
        violations: list[Violation] = []
        pairs = query.items() if isinstance(query, Mapping) else query
        params = self._check_query(match, pairs, violations)
        checked: Any = None
        if match.method.request is not None and not match.media:
            partial = match.method.http_method == "PATCH" or "updateMask" in match.method.parameters
            checked = self._book.check_body(
                match.method.request, {} if body is None else body, violations, demand=not partial
            )
        elif body not in (None, {}) and not match.media:
            violations.append(Violation("", "Invalid JSON payload received. The method takes no request body."))
        if violations:
            raise ContractViolation(violations)
        return params, checked

    def check_body(self, match: Match, body: object) -> Any:
        """Check the metadata part of a media upload against the method's request schema."""
        violations: list[Violation] = []
        checked = self._book.check_body(match.method.request or "", body, violations, demand=False)
        if violations:
            raise ContractViolation(violations)
        return checked

    def check_response(self, match: Match, body: object) -> None:
        """Raise ContractViolation when our own answer is not what the document promises."""
        if match.method.response is None or match.media in ("download", "raw"):
            return
        if self._book.fits(match.method.response, body):
            return
        violations: list[Violation] = []
        self._book.check_body(match.method.response, body, violations, demand=False, is_response=True)
        if violations:
            raise ContractViolation(violations)

    def check_schema(self, schema: str, value: object) -> Any:
        """Check a value against a schema by name (an operation's payload, a document in a bucket); canonical form back."""
        violations: list[Violation] = []
        checked = self._book.check_body(schema, value, violations, demand=False)
        if violations:
            raise ContractViolation(violations)
        return checked

    def _check_query(
        self, match: Match, pairs: Iterable[tuple[str, str]], violations: list[Violation]
    ) -> dict[str, Any]:
        known = match.method.parameters
        params: dict[str, Any] = {}
        for raw_name, raw_value in pairs:
            if raw_name in _SYSTEM_PARAMETERS and raw_name not in known:
                continue
            name = raw_name if raw_name in known else camel(raw_name)
            spec = known.get(name)
            if spec is None or spec["location"] != "query":
                system = raw_name in _SYSTEM_PARAMETERS or raw_name.removeprefix("$") in _SYSTEM_PARAMETERS
                upload = match.method.is_upload and raw_name in _UPLOAD_PARAMETERS
                if not (system or upload or self._ignore_unknown_query):
                    violations.append(_unknown_query(raw_name))
                continue
            value = scalar(spec, raw_value, name, violations, in_query=True)
            if spec.get("repeated"):
                params.setdefault(name, []).append(value)
            elif name in params:
                text = f"Invalid value at '{name}'. Proto field is not repeating, cannot start list."
                violations.append(Violation(name, text))
            else:
                params[name] = value
        for name in match.method.required_query:
            if name not in params:
                violations.append(Violation(name, f"Required parameter: {name}"))
        return params

    def _add(self, prefix: str, raw: Mapping[str, Any]) -> None:
        upload = raw.get("mediaUpload")
        parameters = {k: _slim_parameter(v) for k, v in raw.get("parameters", {}).items()}
        method = Method(
            id=raw["id"],
            http_method=raw["httpMethod"],
            path=raw["path"],
            parameters=parameters,
            request=raw.get("request", {}).get("$ref"),
            response=raw.get("response", {}).get("$ref"),
            is_upload=upload is not None,
            is_download=bool(raw.get("supportsMediaDownload")),
            required_query=tuple(
                name for name, spec in parameters.items() if spec.get("required") and spec["location"] == "query"
            ),
        )
        self.methods[method.id] = method
        flat = raw.get("flatPath", raw["path"])
        media = "raw" if method.response == "GoogleApiHttpBody" else ""
        self._route(method, prefix + raw["path"], prefix + flat, media, (method.http_method,))
        if raw.get("useMediaDownloadService"):
            self._route(method, "/download" + prefix + raw["path"], "/download" + prefix + flat, "download", ("GET",))
        for kind, protocol in (upload or {}).get("protocols", {}).items():
            # The continuation of a resumable session is a PUT on the same path; a cancelled one a DELETE.
            media = "resumable" if kind == "resumable" else "upload"
            verbs = (method.http_method, "PUT", "DELETE")
            self._route(method, protocol["path"], protocol["path"], media, verbs)

    def _route(self, method: Method, path: str, flat: str, media: str, verbs: tuple[str, ...]) -> None:
        pattern, names, checks = _compile_path(path.lstrip("/"), method.parameters)
        node = self._root
        for token in _template_tokens(flat.lstrip("/")):
            node = node.children.setdefault(token, _Node())
        route = _Route(pattern, names, checks, method, media)
        for verb in verbs:
            node.routes.setdefault(verb, []).append(route)

    def _find(self, node: _Node, tokens: list[str], at: int, http_method: str) -> Iterable[_Route]:
        if at == len(tokens):
            yield from node.routes.get(http_method, ())
            return
        token = tokens[at]
        child = node.children.get(token)
        if child is not None:
            yield from self._find(child, tokens, at + 1, http_method)
        wildcard = node.children.get("*")
        if wildcard is not None and not token.startswith(":"):
            yield from self._find(wildcard, tokens, at + 1, http_method)


@functools.cache
def document_path(name: str, version: str) -> Path:
    """Return where google-api-python-client keeps a document, without importing the client."""
    spec = importlib.util.find_spec("googleapiclient")
    places = list(spec.submodule_search_locations or []) if spec else []
    if not places:
        raise FileNotFoundError(
            "google-api-python-client is not installed, so the discovery documents are missing; "
            "install the extra 'localcloud'."
        )
    path = Path(places[0]) / "discovery_cache" / "documents" / f"{name}.{version}.json"
    if not path.is_file():
        raise FileNotFoundError(f"google-api-python-client in {places[0]} ships no document {path.name}; update it.")
    return path


def _methods(resource: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    yield from resource.get("methods", {}).values()
    for child in resource.get("resources", {}).values():
        yield from _methods(child)


def _slim_parameter(raw: Mapping[str, Any]) -> dict[str, Any]:
    keep = ("location", "type", "format", "enum", "required", "repeated", "pattern", "minimum", "maximum")
    return {key: raw[key] for key in keep if key in raw}


def _tokenisations(segments: list[str]) -> Iterable[list[str]]:
    """Yield the two readings of a path: with a custom verb (`…/e1:predict`) and without (an object named `a:b`)."""
    head, colon, verb = segments[-1].rpartition(":")
    if colon:
        yield [*segments[:-1], head, ":" + verb]
    yield segments


def _template_tokens(template: str) -> list[str]:
    tokens: list[str] = []
    for segment in template.split("/"):
        name, colon, verb = segment.partition(":")
        tokens.append("*" if name.startswith("{") else name)
        if colon:
            tokens.append(":" + verb)
    return tokens


def _compile_path(
    path: str, parameters: Mapping[str, Mapping[str, Any]]
) -> tuple[re.Pattern[str], tuple[str, ...], tuple[re.Pattern[str] | None, ...]]:
    names: list[str] = []
    checks: list[re.Pattern[str] | None] = []
    regex = ""
    for piece in re.split(r"(\{\+?[^}]+\})", path):
        if not piece.startswith("{"):
            regex += re.escape(piece)
            continue
        name = piece.strip("{}").lstrip("+")
        pattern = parameters.get(name, {}).get("pattern")
        body = pattern.removeprefix("^").removesuffix("$") if pattern and piece.startswith("{+") else "[^/]+"
        names.append(name)
        checks.append(_regex(body) if piece.startswith("{+") else None)
        regex += f"({body})"
    return _regex(regex), tuple(names), tuple(checks)


@functools.cache
def _regex(text: str) -> re.Pattern[str]:
    return re.compile(text)


def _unknown_query(name: str) -> Violation:
    text = (
        f'Invalid JSON payload received. Unknown name "{name}": Cannot bind query parameter. '
        f"Field '{name}' could not be found in request message."
    )
    return Violation("", text)
