"""The numbers of a job follow from its flags, and a flag that cannot be used is refused by name."""

import json

import pytest

from trainer.errors import SettingsError
from trainer.options import Options, refuse_foreign_replicas
from trainer.task import parse

VERTEX = {"AIP_MODEL_DIR": "gs://b/model/", "AIP_CHECKPOINT_DIR": "gs://b/c/", "AIP_TENSORBOARD_LOG_DIR": "gs://b/l/"}


def test_num_train_examples_is_the_total_to_draw() -> None:
    """Steps are num_train_examples divided by the batch size."""
    assert Options("d", "m", num_train_examples=1_000, batch_size=100).steps == 10
    assert Options("d", "m", num_train_examples=1_099, batch_size=100).steps == 10


def test_fewer_examples_than_a_batch_make_one_smaller_batch() -> None:
    """Not more examples are drawn than were asked for."""
    options = Options("d", "m", num_train_examples=8, batch_size=512)
    assert (options.steps, options.effective_batch_size) == (1, 8)


@pytest.mark.parametrize(("steps", "evals", "expected"), [(10, 2, [5, 10]), (10, 3, [3, 6, 10]), (2, 5, [1, 2])])
def test_evaluations_are_evenly_spaced_and_end_at_the_last_step(steps: int, evals: int, expected: list[int]) -> None:
    """num_evals evaluations, or one for each step where there are fewer steps."""
    options = Options("d", "m", num_train_examples=steps, batch_size=1, num_evals=evals)
    assert options.evaluation_steps == expected


def test_directories_come_from_vertex_variables_and_flags_win() -> None:
    """AIP_* variables are read; a flag of the same meaning wins over them."""
    options = parse(["--dataset", "d", "--log-dir", "here"], VERTEX)
    assert (options.model_dir, options.checkpoint_dir, options.log_dir) == ("gs://b/model/", "gs://b/c/", "here")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dataset", "d", "--num-evals", "0"], ["0", "--num-evals", "at least 1"]),
        (["--dataset", "d", "--batch-size", "-1"], ["-1", "--batch-size"]),
        (["--dataset", "d", "--learning-rate", "nan"], ["nan", "--learning-rate"]),
        (["--dataset", "d", "--batch-size", "many"], ["many", "--batch-size", "--help"]),
        (["--dataset", "d", "--no-such-flag"], ["--no-such-flag"]),
        ([], ["--dataset"]),
        (["--dataset", ""], ["--dataset"]),
    ],
)
def test_a_bad_flag_is_refused_by_name(arguments: list[str], words: list[str]) -> None:
    """The refusal names value, place and mend."""
    with pytest.raises(SettingsError) as refusal:
        parse(arguments, VERTEX)
    assert all(word in str(refusal.value) for word in words)


def test_a_missing_model_directory_is_refused() -> None:
    """Without AIP_MODEL_DIR there is nowhere to write to, and the refusal says so."""
    with pytest.raises(SettingsError, match="AIP_MODEL_DIR"):
        parse(["--dataset", "d"], {})


@pytest.mark.parametrize("name", ["TF_CONFIG", "CLUSTER_SPEC"])
def test_a_single_replica_is_accepted_and_a_cluster_refused(name: str) -> None:
    """Vertex AI describes a cluster of one for every job; of two, each would overwrite the other's model."""
    one = {"cluster": {"chief": ["127.0.0.1:2222"]}, "task": {"type": "chief", "index": 0}}
    refuse_foreign_replicas({name: json.dumps(one)})
    two = {"cluster": {"chief": ["a:1"], "worker": ["b:1"]}}
    with pytest.raises(SettingsError, match=f"2 .*{name}.*replicaCount"):
        refuse_foreign_replicas({name: json.dumps(two)})
    with pytest.raises(SettingsError, match=name):
        refuse_foreign_replicas({name: "{broken"})


def test_an_unknown_model_is_refused_with_the_known_ones() -> None:
    """--model names an entry of the registry."""
    from trainer import registry

    with pytest.raises(SettingsError, match="babyweight"):
        registry.find("babywait")
