"""Update masks."""

from collections.abc import Iterable
from typing import Any

from localcloud.pubsub.errors import InvalidArgument


def merge(current: Any, update: Any, paths: Iterable[str], updatable: frozenset[str]) -> Any:
    """A copy of `current` with the masked fields taken from `update`; a field that is unset there is cleared.

    Raises:
        InvalidArgument: the mask is empty, or names a field that is unknown or cannot be changed.
    """
    wanted = list(paths)
    if not wanted:
        raise InvalidArgument(f"update_mask for {update.name} is empty; name the fields to change.")
    known = current.DESCRIPTOR.fields_by_name
    for path in wanted:
        first = path.partition(".")[0]
        if first not in known:
            raise InvalidArgument(
                f"update_mask path {path[:100]!r} of {update.name} is not a field of {current.DESCRIPTOR.name}; name one."
            )
        if first not in updatable:
            raise InvalidArgument(f"{path!r} of {update.name} cannot be changed; leave it out of the update_mask.")
    changed = type(current)()
    changed.CopyFrom(current)
    for path in wanted:
        try:
            _copy(changed, update, path.split("."), path)
        except InvalidArgument as error:
            raise InvalidArgument(f"{update.name}: {error}") from None
    return changed


def _copy(target: Any, source: Any, parts: list[str], path: str) -> None:
    name = parts[0]
    field = target.DESCRIPTOR.fields_by_name.get(name)
    if field is None:
        raise InvalidArgument(
            f"update_mask path {path[:100]!r} names no field: {target.DESCRIPTOR.name} has no {name!r}; mend the path."
        )
    if len(parts) > 1:
        if field.message_type is None or field.is_repeated:
            raise InvalidArgument(
                f"update_mask path {path[:100]!r} goes into {name!r}, which has no fields; end it there."
            )
        _copy(getattr(target, name), getattr(source, name), parts[1:], path)
        return
    target.ClearField(name)
    only = type(source)()
    only.CopyFrom(source)
    for other in source.DESCRIPTOR.fields:
        if other.name != name:
            only.ClearField(other.name)
    target.MergeFrom(only)
