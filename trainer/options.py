"""What one training job is asked to do: numbers, directories and the checks on them."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from trainer.errors import SettingsError

_FOREIGN_CLUSTER_MEND = "set replicaCount to 1 and give a single workerPoolSpec"


@dataclass(frozen=True)
class Options:
    """The settings of one job, already parsed.

    Attributes:
        dataset: directory with `manifest.json`, a local path or gs:// URI.
        model_dir: where the artifacts are written.
        checkpoint_dir: where checkpoints are written; None trains without them.
        log_dir: where TensorBoard's events and `progress.json` are written; None writes neither.
        model: name in the registry.
        num_train_examples: examples to draw in total, so that there are num_train_examples / batch_size steps.
        num_eval_examples: at most this many held-out rows are measured at the end; 0 measures all.
        num_evals: evaluations along the way, evenly spaced, the last at the last step.
        learning_rate: the highest one; it warms up and then falls to zero along a cosine.
        batch_size: examples per step.
        seed: of the initial weights and of every shuffle.
        threads: CPU threads within one operation. One is the fastest for tables of this width (measured), and it
            makes the sums come out in the same order on every machine.
    """

    dataset: str
    model_dir: str
    checkpoint_dir: str | None = None
    log_dir: str | None = None
    model: str = "babyweight"
    num_train_examples: int = 500_000
    num_eval_examples: int = 0
    num_evals: int = 10
    learning_rate: float = 0.002
    batch_size: int = 512
    seed: int = 1
    threads: int = 1

    def __post_init__(self) -> None:
        for name, flag, source in (
            ("dataset", "--dataset", "the directory that the preprocess job wrote"),
            ("model_dir", "--model-dir or AIP_MODEL_DIR", "the directory for the artifacts"),
        ):
            if not getattr(self, name):
                raise SettingsError("a directory is missing", value="", place=flag, mend=f"set it to {source}")
        for name, floor in (
            ("num_train_examples", 1),
            ("num_evals", 1),
            ("batch_size", 1),
            ("threads", 1),
            ("num_eval_examples", 0),
            ("seed", 0),
        ):
            value = getattr(self, name)
            if value < floor:
                place = "--" + name.replace("_", "-")
                raise SettingsError("a number is too small", value=value, place=place, mend=f"give at least {floor}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise SettingsError(
                "the learning rate must be a positive number",
                value=self.learning_rate,
                place="--learning-rate",
                mend="give for example 0.002",
            )

    @property
    def effective_batch_size(self) -> int:
        """A batch is never larger than all the examples asked for."""
        return min(self.batch_size, self.num_train_examples)

    @property
    def steps(self) -> int:
        """Steps in total; a last, incomplete batch is not drawn."""
        return self.num_train_examples // self.effective_batch_size

    @property
    def evaluation_steps(self) -> list[int]:
        """The steps after which the model is evaluated: rising, distinct, the last one is `steps`."""
        evaluations = min(self.num_evals, self.steps)
        return [self.steps * (index + 1) // evaluations for index in range(evaluations)]


def refuse_foreign_replicas(environment: Mapping[str, str]) -> None:
    """Accept the cluster variables that Vertex AI sets for a single replica; refuse a real cluster.

    Two replicas of this job would each train alone and write over each other's model.

    Raises:
        SettingsError: TF_CONFIG or CLUSTER_SPEC is not JSON, or names more than one task.
    """
    for name in ("TF_CONFIG", "CLUSTER_SPEC"):
        text = environment.get(name, "")
        if not text:
            continue
        try:
            cluster = json.loads(text).get("cluster", {})
            tasks = sum(len(addresses) for addresses in cluster.values())
        except (json.JSONDecodeError, AttributeError, TypeError) as error:
            raise SettingsError(
                "the cluster description is not the JSON that Vertex AI writes",
                value=text[:200],
                place=name,
                mend="unset it, or set {'cluster': {'chief': ['host:port']}} as JSON",
            ) from error
        if tasks > 1:
            raise SettingsError("this trainer runs as one replica", value=tasks, place=name, mend=_FOREIGN_CLUSTER_MEND)
