"""Generation and metageneration preconditions: the compare in Cloud Storage's compare-and-set.

They are checked inside the transaction that makes the change, so of any number of racing clients one wins.
Generation 0 means "no live object": `ifGenerationMatch=0` creates only, `ifGenerationNotMatch=0` replaces only.
Source: "Request preconditions" in Cloud Storage's documentation, which says 304 for every ...NotMatch that fails.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from localcloud.storage import errors


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

    def check(self, generation: int, metageneration: int) -> None:
        """Check against what is there now; both are 0 if nothing is.

        Raises:
            ApiError: 412 where something else is there than was demanded; 304, also for a write, where it is what the
                request was not to meet.
        """
        if self.generation_match not in (None, generation):
            raise errors.condition_not_met(f"ifGenerationMatch={self.generation_match}, found {generation}.")
        if self.metageneration_match not in (None, metageneration):
            raise errors.condition_not_met(
                f"ifMetagenerationMatch={self.metageneration_match}, found {metageneration}."
            )
        if self.generation_not_match == generation:
            raise errors.not_modified(f"ifGenerationNotMatch={self.generation_not_match}")
        if self.metageneration_not_match == metageneration:
            raise errors.not_modified(f"ifMetagenerationNotMatch={self.metageneration_not_match}")


NO_PRECONDITIONS = Preconditions()
