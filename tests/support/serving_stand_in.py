"""A hand-written instance schema, and a model that answers without LiteRT: for tests of what lies around the model."""

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.schema import Columns, InstanceSchema

INSTANCE: dict[str, Any] = {
    "is_male": "True",
    "mother_age": 26.6,
    "plurality": "Single(1)",
    "gestation_weeks": 37,
}
SCHEMA_DOCUMENT: dict[str, Any] = {
    "title": "babyweight",
    "type": "object",
    "properties": {
        "is_male": {"type": "string", "enum": ["True", "False", "Unknown"]},
        "mother_age": {"type": "number", "minimum": 10, "maximum": 75, "x-unit": "years"},
        "plurality": {"type": "string", "enum": ["Single(1)", "Multiple(2+)"]},
        "gestation_weeks": {"type": "number", "minimum": 12, "maximum": 50, "x-unit": "weeks"},
    },
    "example": INSTANCE,
    "x-prediction": {"name": "weight_pounds", "unit": "lb", "type": "number"},
}


def instance_schema() -> InstanceSchema:
    return InstanceSchema.from_json(json.dumps(SCHEMA_DOCUMENT).encode(), "test")


class WeeksModel:
    """Predicts a fifth of the gestation weeks."""

    def __init__(self) -> None:
        self.schema = instance_schema()

    def predict(self, columns: Columns) -> npt.NDArray[np.float32]:
        return np.asarray(columns["gestation_weeks"] / np.float32(5))
