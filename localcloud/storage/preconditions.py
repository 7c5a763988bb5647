"""Generation and metageneration preconditions: the compare in Cloud Storage's compare-and-set.

They are checked inside the transaction that makes the change, so of any number of racing clients one wins.
Generation 0 means "no live object": `ifGenerationMatch=0` creates only, `ifGenerationNotMatch=0` replaces only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from localcloud.storage import errors


class NotModified(Exception):
    """304: a reader's ...NotMatch precondition found what the reader already has."""


@dataclass(frozen=True, slots=True)
class Preconditions:
    """What a request demands of the object (or bucket) it changes or reads; None demands nothing."""

    generation_match: int | None = None
    generation_not_match: int | None = None
    metageneration_match: int | None = None
    metageneration_not_match: int | None = None

    @classmethod
    def of(cls, params: Mapping[str, Any], middle: str = "") -> "Preconditions":
        """Take them from a request's parameters: `ifGenerationMatch`, or with `middle` "Source" `ifSource...`."""

        def number(name: str) -> int | None:
            text = params.get(f"if{middle}{name}")
            if text in (None, ""):
                return None
            try:
                return int(text)
            except (TypeError, ValueError):
                raise errors.invalid(f"Invalid value for if{middle}{name}: {text!r}; give an integer.") from None

        return cls(
            number("GenerationMatch"),
            number("GenerationNotMatch"),
            number("MetagenerationMatch"),
            number("MetagenerationNotMatch"),
        )

    def check_write(self, generation: int, metageneration: int) -> None:
        """Check against what is there now; both are 0 if nothing is.

        Raises:
            ApiError: 412, naming the condition and the value found.
        """
        if self.generation_match not in (None, generation):
            raise _failed("ifGenerationMatch", self.generation_match, generation)
        if self.generation_not_match is not None and self.generation_not_match == generation:
            raise _failed("ifGenerationNotMatch", self.generation_not_match, generation)
        if self.metageneration_match not in (None, metageneration):
            raise _failed("ifMetagenerationMatch", self.metageneration_match, metageneration)
        if self.metageneration_not_match is not None and self.metageneration_not_match == metageneration:
            raise _failed("ifMetagenerationNotMatch", self.metageneration_not_match, metageneration)

    def check_read(self, generation: int, metageneration: int) -> None:
        """The same for a read, where a ...NotMatch that fails is no error but 304.

        Raises:
            ApiError: 412.
            NotModified: 304.
        """
        if self.generation_match not in (None, generation):
            raise _failed("ifGenerationMatch", self.generation_match, generation)
        if self.metageneration_match not in (None, metageneration):
            raise _failed("ifMetagenerationMatch", self.metageneration_match, metageneration)
        if self.generation_not_match == generation or self.metageneration_not_match == metageneration:
            raise NotModified


NO_PRECONDITIONS = Preconditions()


def _failed(name: str, wanted: int | None, found: int) -> Exception:
    return errors.condition_not_met(f"{name}={wanted}, found {found}.")
