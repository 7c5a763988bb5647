"""The babyweight model: a baby's weight at birth, from what is known before it."""

from trainer.spec import CategoryField, ModelSpec, NumberField

SPEC = ModelSpec(
    name="babyweight",
    label="weight_pounds",
    numbers=(
        NumberField("mother_age", "years", 10.0, 75.0, 3.0, "The mother's age at birth, in years."),
        NumberField("gestation_weeks", "weeks", 12.0, 50.0, 1.0, "The pregnancy's length, in weeks."),
    ),
    categories=(
        CategoryField("is_male", "Whether the baby is a boy; Unknown where no ultrasound was made."),
        CategoryField("plurality", "How many babies; without an ultrasound one only sees that there are several."),
    ),
    crosses=(("gestation_weeks", "plurality"), ("gestation_weeks", "is_male")),
    hidden_units=(64, 64),
    one_case=("weight_pounds", "mother_age", "gestation_weeks"),
    example={"is_male": "True", "mother_age": 26.6, "plurality": "Single(1)", "gestation_weeks": 37.0},
)
