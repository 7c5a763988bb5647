"""The models that this package can train, by the name given as --model."""

from trainer import babyweight
from trainer.errors import SettingsError
from trainer.spec import ModelSpec

MODELS: dict[str, ModelSpec] = {spec.name: spec for spec in (babyweight.SPEC,)}


def find(name: str) -> ModelSpec:
    """The declaration of one model.

    Raises:
        SettingsError: there is none of that name.
    """
    if name not in MODELS:
        known = ", ".join(sorted(MODELS))
        raise SettingsError("no such model", value=name, place="--model", mend=f"choose one of: {known}")
    return MODELS[name]
