"""Changes what a dead letter holds: single fields by their path, or the whole of it as a document in an editor.

What is not touched stays byte for byte as it was. The ids stay too unless they are changed on purpose: an edited letter is
still the same event.
"""

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from baton.dlq.letter import Content
from baton.errors import Refused
from baton.render import json_text


def with_fields(
    content: Content,
    fields: Mapping[str, Any],
    *,
    unset: Sequence[str] = (),
    attributes: Mapping[str, str] | None = None,
    unset_attributes: Sequence[str] = (),
) -> Content:
    """Return `content` with fields set or taken away; a path goes into objects by dots: `params.limit`.

    Raises:
        Refused: the data is no JSON object, a path leads through something that is none, or what is to be taken away is
            not there.
    """
    data = content.data
    if fields or unset:
        body = _body(data)
        for path, value in fields.items():
            *folders, name = path.split(".")
            _folder(body, folders, path)[name] = value
        for path in unset:
            *folders, name = path.split(".")
            folder = _folder(body, folders, path)
            if name not in folder:
                place = f"the fields of {'.'.join(folders)}" if folders else "its fields"
                raise Refused(f"the data has no field {path!r}", f"{place} are {', '.join(sorted(folder)) or 'none'}")
            del folder[name]
        data = _compact(body)
    for name in unset_attributes:
        if name not in content.attributes:
            known = ", ".join(sorted(content.attributes)) or "none"
            raise Refused(f"the message has no attribute {name!r}", f"its attributes are {known}")
    kept = {key: value for key, value in content.attributes.items() if key not in unset_attributes}
    return Content.of(data, {**kept, **(attributes or {})})


def document(content: Content) -> str:
    """Return the content as a JSON document that a person can edit."""
    body: dict[str, Any] = {"attributes": dict(sorted(content.attributes.items()))}
    try:
        body["data"] = json.loads(content.data)
    except (ValueError, RecursionError):
        try:
            body["data_text"] = content.data.decode()
        except UnicodeDecodeError:
            body["data_base64"] = content.data_base64
    return json_text(body, indent=2) + "\n"


def read_document(text: str, before: Content) -> Content:
    """Return the content that an edited document stands for; what was not changed keeps its bytes.

    Raises:
        Refused: it is not JSON, or not of the form that `document` wrote.
    """
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise Refused(f"the edited document is not JSON ({fault})", "edit it again") from fault
    if not isinstance(body, dict) or not isinstance(body.get("attributes"), dict):
        raise Refused("the edited document lost its form", 'keep {"attributes": {…}, "data": …}')
    attributes = body["attributes"]
    if not all(isinstance(value, str) for value in attributes.values()):
        raise Refused("an attribute is no text", "put its value into quotes")
    return Content(data_base64=_data(body, before), attributes=attributes)


def difference(before: Content, after: Content) -> list[str]:
    """Return the unified diff of two contents, as documents; empty where they are the same."""
    return list(
        difflib.unified_diff(
            document(before).splitlines(), document(after).splitlines(), "as put aside", "as edited", lineterm=""
        )
    )


def _data(body: dict[str, Any], before: Content) -> str:
    if "data" in body:
        was = json.loads(document(before)).get("data", _NOTHING)
        is_untouched = was is not _NOTHING and _compact(body["data"]) == _compact(was)  # to Python, 1 == True == 1.0
        return before.data_base64 if is_untouched else Content.of(_compact(body["data"]), {}).data_base64
    if isinstance(body.get("data_text"), str):
        return Content.of(body["data_text"].encode(errors="surrogatepass"), {}).data_base64
    if isinstance(body.get("data_base64"), str):
        content = Content(data_base64=body["data_base64"])
        try:
            return Content.of(content.data, {}).data_base64
        except ValueError as fault:
            raise Refused(f"data_base64 is not base64 ({fault})", "edit it again") from fault
    raise Refused("the edited document has no data", 'give "data", "data_text" or "data_base64"')


_NOTHING = object()


def _body(data: bytes) -> dict[str, Any]:
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as fault:
        raise Refused(
            f"the data is not JSON ({fault})", "replace it with --data, or edit it whole: give no option"
        ) from fault
    if not isinstance(body, dict):
        raise Refused(f"the data is {type(body).__name__}, no JSON object", "replace it with --data")
    return body


def _folder(body: dict[str, Any], folders: list[str], path: str) -> dict[str, Any]:
    for name in folders:
        inner = body.setdefault(name, {})
        if not isinstance(inner, dict):
            raise Refused(f"{path!r} leads through {name!r}, which is no object", "set the outer field first")
        body = inner
    return body


def _compact(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=True).encode()
