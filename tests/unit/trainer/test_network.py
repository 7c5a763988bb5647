"""The network, its features and one step of its training, in memory."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.support import datasets
from trainer.babyweight import SPEC
from trainer.data import CategoryColumn, Columns, read_columns, take
from trainer.evaluate import Predictor, choose_rows, measure
from trainer.export import instance_schema
from trainer.features import bucket_boundaries, column_models, compute
from trainer.manifest import Manifest, NumberStatistics, read_manifest
from trainer.model import build_label_model, build_network, build_serving_model, label_deviation, share_table
from trainer.options import Options
from trainer.storage import LocalDirectory
from trainer.train import ExampleOrder, Rows, Training


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, Columns]:
    path = datasets.write_dataset(tmp_path_factory.mktemp("dataset"), datasets.births(limit=400))
    directory = LocalDirectory(path)
    manifest = read_manifest(directory, SPEC)
    return manifest, read_columns(directory, manifest.train_files, manifest.train_rows, SPEC)


@pytest.fixture(scope="module")
def features(dataset: tuple[Manifest, Columns]) -> dict[str, Any]:
    manifest, columns = dataset
    return compute(column_models(SPEC, manifest), columns)


def first(features: dict[str, Any], rows: int) -> dict[str, Any]:
    return {name: values[:rows] for name, values in features.items()}


def test_features_are_scaled_over_the_whole_column(dataset: tuple[Manifest, Columns], features: dict[str, Any]) -> None:
    """Scaled numbers have mean 0 and deviation 1 over the training split."""
    for name in ("mother_age_scaled", "gestation_weeks_scaled"):
        assert features[name].dtype == np.float32
        assert features[name].mean() == pytest.approx(0, abs=1e-4)
        assert features[name].std() == pytest.approx(1, abs=1e-3)


def test_each_category_has_its_index_and_the_unknown_has_0(dataset: tuple[Manifest, Columns]) -> None:
    """Indexes follow the manifest from 1; what it does not list falls into the bucket 0."""
    manifest, _ = dataset
    known = list(manifest.categories["plurality"])
    values = [*known, "Sextuplets(6)", "", "single(1)"]
    column = CategoryColumn(values, np.arange(len(values), dtype=np.int32))
    found = compute({"plurality": column_models(SPEC, manifest)["plurality"]}, {"plurality": column})
    assert found["plurality_index"].tolist() == [*range(1, len(known) + 1), 0, 0, 0]


def test_a_number_beyond_the_training_range_counts_as_the_nearest_in_it(dataset: tuple[Manifest, Columns]) -> None:
    """The network never extrapolates: both features of an extreme value are those of the range's end."""
    manifest, _ = dataset
    seen = manifest.numbers["mother_age"]
    model = column_models(SPEC, manifest)["mother_age"]
    ages = np.array([seen.minimum, seen.minimum - 5, seen.maximum, seen.maximum + 20], np.float32)
    for values in compute({"mother_age": model}, {"mother_age": ages}).values():
        assert values[0] == values[1] < values[2] == values[3]


def test_buckets_hold_one_whole_week_each() -> None:
    """Boundaries lie between whole steps, so that no measured value sits on one."""
    assert bucket_boundaries(SPEC.numbers[1], NumberStatistics(38, 2, 36, 40)) == [36.5, 37.5, 38.5, 39.5]


def test_a_constant_column_becomes_zeros(dataset: tuple[Manifest, Columns]) -> None:
    """Nothing is divided by a deviation of zero."""
    manifest, _ = dataset
    numbers = manifest.numbers | {"mother_age": NumberStatistics(30, 0, 30, 30)}
    constant = Manifest(**{**vars(manifest), "numbers": numbers})
    model = column_models(SPEC, constant)["mother_age"]
    found = compute({"mother_age": model}, {"mother_age": np.full(3, 30, np.float32)})
    assert found["mother_age_scaled"].tolist() == [0, 0, 0]


def test_an_unknown_category_is_seen_as_the_average_one() -> None:
    """Row 0 holds the training frequencies, the others one whole share each."""
    assert share_table([3, 1]).tolist() == [[0.75, 0.25], [1, 0], [0, 1]]


def test_output_shape_and_parameter_count(dataset: tuple[Manifest, Columns], features: dict[str, Any]) -> None:
    """One number per row; every part of wide and deep has the weights that its width says."""
    manifest, _ = dataset
    network = build_network(SPEC, manifest, seed=1)
    assert network(first(features, 5)).shape == (5,)
    ages, weeks = (len(bucket_boundaries(n, manifest.numbers[n.name])) + 1 for n in SPEC.numbers)
    male, plurality = (len(manifest.categories[c.name]) for c in SPEC.categories)
    deep = (2 + male + plurality) * 64 + 64 + 64 * 64 + 64 + 64 + 1
    wide = ages + weeks + male + plurality + weeks * male + weeks * plurality
    assert sum(int(np.prod(w.shape)) for w in network.trainable_weights) == deep + wide


def test_the_seed_decides_the_first_weights(dataset: tuple[Manifest, Columns]) -> None:
    """The same seed gives the same weights, another one others."""
    kernels = [build_network(SPEC, dataset[0], seed=seed).get_layer("deep_0").get_weights()[0] for seed in (1, 1, 2)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], kernels[2])


def test_an_answer_stays_within_what_training_saw(dataset: tuple[Manifest, Columns]) -> None:
    """Whatever the network says, no baby weighs less than nothing."""
    manifest, _ = dataset
    seen = manifest.numbers[SPEC.label]
    found = np.asarray(build_label_model(SPEC, manifest)(np.array([-100, 0, 100], np.float32)))
    np.testing.assert_allclose(found, [seen.minimum, seen.mean, seen.maximum], rtol=1e-6)


def training_of(
    dataset: tuple[Manifest, Columns], features: dict[str, Any], network: keras.Model, options: Options, **hooks: Any
) -> Training:
    manifest, columns = dataset
    label = columns[SPEC.label]
    assert isinstance(label, np.ndarray)
    return Training(
        network,
        Rows(first(features, 8), label[:8]),
        Rows({name: values[8:40] for name, values in features.items()}, label[8:40]),
        options,
        predictor=Predictor(network, build_label_model(SPEC, manifest)),
        mean=manifest.numbers[SPEC.label].mean,
        deviation=label_deviation(manifest, SPEC),
        **hooks,
    )


def test_one_step_on_eight_rows_lowers_the_loss(dataset: tuple[Manifest, Columns], features: dict[str, Any]) -> None:
    """A step moves every trainable weight that the rows reach, and the loss on those rows falls."""
    manifest, columns = dataset
    network = build_network(SPEC, manifest, seed=1)
    before = [weights.copy() for weights in network.get_weights()]
    label = np.asarray(columns[SPEC.label])[:8]
    truth = (label - manifest.numbers[SPEC.label].mean) / label_deviation(manifest, SPEC)

    def loss() -> float:
        return float(np.mean((np.asarray(network(first(features, 8))) - truth) ** 2))

    loss_before = loss()
    options = Options("d", "m", num_train_examples=8, batch_size=8, learning_rate=0.01)
    state = training_of(dataset, features, network, options).run()
    assert state.step == 1
    assert loss() < loss_before
    trained = {variable.path for variable in network.trainable_weights}
    for variable, old, new in zip(network.weights, before, network.get_weights(), strict=True):
        assert (variable.path in trained) == (not np.array_equal(old, new)), variable.path


def test_the_best_evaluation_wins_not_the_last(dataset: tuple[Manifest, Columns], features: dict[str, Any]) -> None:
    """The network ends with the weights of the evaluation that had the lowest validation error."""
    manifest, _ = dataset
    network = build_network(SPEC, manifest, seed=1)
    saved: dict[int, Any] = {}
    # A rate so high that the eight rows are learned by heart and the validation error rises again.
    options = Options("d", "m", num_train_examples=8 * 60, batch_size=8, learning_rate=0.05, num_evals=6)
    training = training_of(
        dataset, features, network, options, save=lambda state: saved.update({state.step: state.weights})
    )
    state = training.run()
    best = min(state.evaluations, key=lambda evaluation: evaluation["validation_rmse"])
    assert best["step"] < state.step
    for found, expected in zip(network.get_weights(), saved[int(best["step"])], strict=True):
        np.testing.assert_array_equal(found, expected)


def test_every_row_is_drawn_once_before_any_is_drawn_again() -> None:
    """Rounds are permutations, each its own, and the same whatever the size of the draw."""
    whole = ExampleOrder(10, seed=3).draw(0, 30)
    for number in range(3):
        assert sorted(whole[number * 10 : number * 10 + 10]) == list(range(10))
    assert list(whole[:10]) != list(whole[10:20])
    piecewise = ExampleOrder(10, seed=3)
    np.testing.assert_array_equal(np.concatenate([piecewise.draw(start, 3) for start in range(0, 30, 3)]), whole)
    assert list(ExampleOrder(10, seed=4).draw(0, 10)) != list(whole[:10])


def test_measured_errors_are_in_the_labels_unit() -> None:
    """RMSE, MAE and the error of always predicting the mean."""
    errors = measure(np.array([1.0, 3.0]), np.array([2.0, 5.0], np.float32), training_mean=4.0)
    assert errors.rmse == pytest.approx(np.sqrt(2.5))
    assert errors.mae == pytest.approx(1.5)
    assert errors.baseline_rmse == pytest.approx(np.sqrt(2.5))


def test_num_eval_examples_caps_the_held_out_rows() -> None:
    """0 measures all; a cap takes a seeded sample without repetition."""
    assert choose_rows(5, 0, seed=1).tolist() == [0, 1, 2, 3, 4]
    sample = choose_rows(100, 10, seed=1)
    assert len(set(sample.tolist())) == 10
    np.testing.assert_array_equal(sample, choose_rows(100, 10, seed=1))


# Keras 3.15 converts its variables in a way that NumPy 2 calls deprecated.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_model_file_loads_without_this_package(dataset: tuple[Manifest, Columns], tmp_path: Path) -> None:
    """model.keras holds standard layers only: safe mode loads it, and it answers raw fields alike."""
    manifest, columns = dataset
    network = build_network(SPEC, manifest, seed=1)
    model = build_serving_model(SPEC, column_models(SPEC, manifest), network, build_label_model(SPEC, manifest))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    raw = {}
    for name, column in take(columns, np.arange(10)).items():
        strings = column.strings() if isinstance(column, CategoryColumn) else None
        raw[name] = keras.ops.convert_to_tensor(strings, "string") if strings else keras.ops.convert_to_tensor(column)
    del raw[SPEC.label]
    np.testing.assert_array_equal(np.asarray(model(raw)[SPEC.label]), np.asarray(loaded(raw)[SPEC.label]))


def test_the_schema_lists_what_training_saw(dataset: tuple[Manifest, Columns]) -> None:
    """Categories are those of the training split; numbers carry bounds, unit and the range that was trained on."""
    manifest, _ = dataset
    schema = instance_schema(SPEC, manifest)
    assert schema["required"] == list(schema["properties"]) == list(SPEC.example)
    assert schema["properties"]["is_male"]["enum"] == sorted(manifest.categories["is_male"])
    age = schema["properties"]["mother_age"]
    assert age["minimum"] < age["x-trained-range"][0] < age["x-trained-range"][1] < age["maximum"]
    assert schema["x-prediction"] == {"name": "weight_pounds", "unit": "lb", "type": "number"}
