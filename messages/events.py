"""The events: facts that have happened, frozen, each the JSON body of one Pub/Sub message.

Unknown fields are kept, so that a newer publisher and an older worker can share a topic; the CloudEvents attributes
around an event (id, type, run id, time) are `messages.codec`'s. A changed field means a new version and an upcaster
(`messages.versions`), never an edit of a published one.
"""

import re
from typing import Annotated, Any, ClassVar

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

RUN_ID_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"

_ARTIFACT_URI = r"^(gs|bq)://[^\s\x00-\x1f\x7f]([^\x00-\x1f\x7f]{0,1998}[^\s\x00-\x1f\x7f])?$"
_FOLDER_URI = r"^gs://[a-z0-9][^\s\x00-\x1f]*$"
_PIPELINE_NAME = r"^[a-z][a-z0-9-]{0,30}$"
_REGION = r"^[a-z]+-[a-z]+[0-9]$"
IN_WORDS = {
    _ARTIFACT_URI: "write gs://bucket/object or bq://project.dataset.table",
    _FOLDER_URI: "write gs://bucket/folder, without blanks",
    _PIPELINE_NAME: "write a small letter, then up to 30 small letters, digits and hyphens",
    _REGION: "write a region such as us-central1",
}
"""What a pattern asks for, for people who do not read patterns."""

PipelineName = Annotated[str, StringConstraints(pattern=_PIPELINE_NAME)]
"""A pipeline's name: it becomes part of job names and labels, hence lower case, digits and hyphens."""

ArtifactUri = Annotated[str, StringConstraints(pattern=_ARTIFACT_URI)]
"""Where an artifact lies: `gs://bucket/path` (objects' names may hold blanks) or `bq://project.dataset.table`."""

Metric = float | int


def _empty_is_absent(value: Any) -> Any:
    """Forms and shells send "" for what was left blank; a number cannot be blank."""
    return None if value == "" else value


Blankable = BeforeValidator(_empty_is_absent)


def _either(snake: str, camel: str) -> AliasChoices:
    """A parameter is known by our name and by the name the original tutorial's requests gave it."""
    return AliasChoices(snake, camel)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True, protected_namespaces=())


class Parameters(_Frozen):
    """What one run may set; anything unset falls back to the pipeline's TOML.

    A pipeline may declare parameters of its own: they are carried as extra fields and checked by the worker that
    reads the pipeline.
    """

    limit: Annotated[int | None, Blankable, Field(gt=0, description="rows to read from the source; unset = all")] = None
    output_uri: Annotated[
        str | None,
        Blankable,
        Field(
            pattern=_FOLDER_URI,
            validation_alias=AliasChoices("output_uri", "outputDir", "output_dir"),
            description="folder under which this run's artifacts are written",
        ),
    ] = None
    num_train_examples: Annotated[
        int | None,
        Blankable,
        Field(
            gt=0,
            validation_alias=_either("num_train_examples", "numTrainExamples"),
            description="examples drawn in training",
        ),
    ] = None
    num_eval_examples: Annotated[
        int | None,
        Blankable,
        Field(
            gt=0,
            validation_alias=_either("num_eval_examples", "numEvalExamples"),
            description="examples held out for evaluation",
        ),
    ] = None
    num_evals: Annotated[
        int | None,
        Blankable,
        Field(
            gt=0,
            le=1000,
            validation_alias=_either("num_evals", "numEvals"),
            description="evaluations along the training",
        ),
    ] = None
    learning_rate: Annotated[
        float | None,
        Blankable,
        Field(
            gt=0,
            le=10,
            validation_alias=_either("learning_rate", "learningRate"),
            description="step size of the optimiser",
        ),
    ] = None
    model_name: Annotated[
        str | None,
        Blankable,
        Field(
            pattern=r"^[a-z_][a-z0-9_-]{0,62}$",
            validation_alias=_either("model_name", "modelName"),
            description="id of the model in the registry",
        ),
    ] = None
    version_name: Annotated[
        str | None,
        Blankable,
        Field(
            pattern=r"^[a-z]([a-z0-9-]{0,126}[a-z0-9])?$",
            validation_alias=_either("version_name", "versionName"),
            description="alias of the model version this run makes",
        ),
    ] = None
    region: Annotated[
        str | None,
        Blankable,
        Field(pattern=_REGION, description="Google Cloud region of the jobs"),
    ] = None
    machine_type: Annotated[
        str | None,
        Blankable,
        Field(
            pattern=r"^[a-z][a-z0-9-]{1,62}$",
            validation_alias=_either("machine_type", "machineType"),
            description="machine type of the training job",
        ),
    ] = None

    def given(self) -> dict[str, Any]:
        """Return only what was set, ours and the pipeline's own, by our names."""
        return {k: v for k, v in self.model_dump(mode="json").items() if v is not None}


class Job(_Frozen):
    """The execution that did a stage's work."""

    id: Annotated[str, Field(description="the provider's id or resource name")]
    name: Annotated[str, Field(description="the name we gave it: follows from run, stage and attempt")]
    attempt: Annotated[int, Field(ge=1)] = 1


class Event(_Frozen):
    """What every event carries; `TYPE` is its CloudEvents type and `TOPIC` the topic it is published to."""

    TYPE: ClassVar[str]
    TOPIC: ClassVar[str]

    pipeline: PipelineName
    params: Parameters = Parameters()


class DataReady(Event):
    """New data lies at `source` and can be read."""

    TYPE: ClassVar[str] = "baton.data.ready.v1"
    TOPIC: ClassVar[str] = "data-ready"

    source: ArtifactUri


class PreprocessDone(Event):
    """A dataset, ready to train on, lies at `dataset_uri`; its manifest was written last."""

    TYPE: ClassVar[str] = "baton.preprocess.done.v1"
    TOPIC: ClassVar[str] = "preprocess-done"

    dataset_uri: ArtifactUri
    train_examples: Annotated[int | None, Field(ge=0, description="rows in the training split")] = None
    eval_examples: Annotated[int | None, Field(ge=0, description="rows in the evaluation split")] = None
    rejected_rows: Annotated[int | None, Field(ge=0, description="rows of the source that were refused")] = None
    digest: Annotated[str | None, Field(description="digest of the dataset's files, from its manifest")] = None
    job: Job | None = None


class TrainDone(Event):
    """A trained model lies at `model_uri`."""

    TYPE: ClassVar[str] = "baton.train.done.v1"
    TOPIC: ClassVar[str] = "train-done"

    model_uri: ArtifactUri
    metrics: Annotated[
        dict[str, Metric], Field(description="figures of the held-out split, as the trainer wrote them")
    ] = {}
    dataset_uri: ArtifactUri | None = None
    job: Job | None = None


class DeployDone(Event):
    """A model version answers predictions at `endpoint`, with `traffic_percent` of the traffic."""

    TYPE: ClassVar[str] = "baton.deploy.done.v1"
    TOPIC: ClassVar[str] = "deploy-done"

    endpoint: Annotated[str, Field(description="resource name, projects/P/locations/R/endpoints/E")]
    model: Annotated[str, Field(description="resource name with version, projects/P/locations/R/models/M@V")]
    deployed_model_id: str
    traffic_percent: Annotated[int, Field(ge=0, le=100)]
    model_uri: ArtifactUri | None = None
    metrics: dict[str, Metric] = {}


class StageFailed(Event):
    """A stage of a run ended without its result; nothing later will start by itself."""

    TYPE: ClassVar[str] = "baton.stage.failed.v1"
    TOPIC: ClassVar[str] = "stage-failed"

    stage: str
    attempts: Annotated[int, Field(ge=0)]
    reason: Annotated[str, Field(description="a short code: job-failed, launch-refused, bad-output, cancelled …")]
    message: Annotated[str, Field(description="what happened: the value and the place")]
    mend: Annotated[str, Field(description="what to do about it")]
    log_tail: Annotated[list[str], Field(description="the job's last log lines")] = []
    job: Job | None = None


EVENTS: tuple[type[Event], ...] = (DataReady, PreprocessDone, TrainDone, DeployDone, StageFailed)


def is_run_id(text: str) -> bool:
    """Tell whether `text` can name a run: it becomes an object name, a label value and part of a job name."""
    return re.match(RUN_ID_PATTERN, text) is not None
