"""What a model of this package declares about itself: its fields, its label and the shape of its network.

Declarations only, so that a dataset can be checked before TensorFlow is imported (seconds saved for every mistake).
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class NumberField:
    """A raw field that is a number.

    Attributes:
        minimum, maximum: what a server should accept, in the field's unit: the bounds of the possible, wider than
            what a small dataset happens to hold. Within them, values beyond the training rows' own range are taken
            as the nearest that training has seen.
        bucket_width: the wide part sees the value in steps of this many units.
    """

    name: str
    unit: str
    minimum: float
    maximum: float
    bucket_width: float
    description: str


@dataclass(frozen=True)
class CategoryField:
    """A raw field that is one of a few strings; which ones, the training split says."""

    name: str
    description: str


@dataclass(frozen=True)
class ModelSpec:
    """One entry of the registry.

    Attributes:
        label: the column to predict.
        numbers, categories: the raw fields, in the order in which a client reads them.
        crosses: (number, category) pairs whose combinations get a weight of their own in the wide part.
        hidden_units: widths of the deep part's layers.
        one_case: the columns which tell that two rows are views of one case (here: one birth), so that a case is
            never on both sides of the validation split.
        example: a readable instance.
    """

    name: str
    label: str
    numbers: tuple[NumberField, ...]
    categories: tuple[CategoryField, ...]
    crosses: tuple[tuple[str, str], ...]
    hidden_units: tuple[int, ...]
    one_case: tuple[str, ...]
    example: dict[str, str | float] = field(default_factory=dict)

    @property
    def column_types(self) -> dict[str, str]:
        """Every column that training reads, with the type which the manifest must give it."""
        numbers = {number.name: "float32" for number in self.numbers}
        return {self.label: "float32"} | numbers | {category.name: "string" for category in self.categories}
