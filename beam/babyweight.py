"""Preprocess births for the babyweight model: `python -m beam.babyweight --source=… --output=… [--limit=N] [--run_id=…]`.

Runs on the laptop with `--runner=FnApiRunner` (the default here: Beam's own default first tries to download a
program) and in the cloud with `--runner=DataflowRunner`; Beam's flags pass through. The exit code is 0 only if the
manifest is written, and 2 if the same job would fail again. On failure the last line on stderr is a JSON object whose
`message` names the value, the place and the mend.
"""

# Beam is typed in part only.
# mypy: disable-error-code="no-untyped-call"
import argparse
import os
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import (
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
    StandardOptions,
    WorkerOptions,
)

from beam import births, logs, sources
from beam.dataset import Target, clear_own, start_attempt
from beam.errors import FINAL, BadFlag, PreprocessError, from_runner
from beam.manifest import DatasetSpec
from beam.preprocessing import PreprocessShards, PublishDataset, TemporaryWriters
from beam.shards import Shard

PIPELINE = "babyweight"
LOCAL_RUNNER = "FnApiRunner"
CLOUD_WORKERS = 25  # where Dataflow chooses how many there are: enough streams for as many
EXIT_OK = 0
EXIT_FAILED = 1
EXIT_REFUSED = 2  # the same input would end the same way: whoever launches the job need not try again

EPILOG = f"""
examples:
  python -m beam.babyweight --source=samples/natality_2022.csv --output=/tmp/dataset --runner={LOCAL_RUNNER}
  python -m beam.babyweight --source='gs://BUCKET/births-*.parquet' --output=gs://BUCKET/runs/1/dataset --limit=1000
  python -m beam.babyweight --source=bq://bigquery-public-data.samples.natality --output=gs://BUCKET/runs/1/dataset \\
    --runner=DataflowRunner --project=PROJECT --region=us-central1 --temp_location=gs://BUCKET/tmp

All other flags are Beam's (https://beam.apache.org/documentation/runners/dataflow/#pipeline-options).
"""


@dataclass(frozen=True)
class Flags:
    """Our own flags; the rest are Beam's."""

    source: str
    output: str
    limit: int | None
    run_id: str


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadFlag(f"{message}; see python -m beam.babyweight --help")


def parse_flags(argv: Sequence[str]) -> tuple[Flags, PipelineOptions]:
    """Read the command line.

    Raises:
        BadFlag: a flag is missing, malformed, or known neither here nor to Beam.
    """
    parser = _Parser(
        prog="python -m beam.babyweight",
        description="Turn births into a training dataset.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--source",
        required=True,
        help="CSV or Parquet: a file, a directory or a pattern, local or gs://; or bq://project.dataset.table",
    )
    parser.add_argument("--output", required=True, help="directory of the dataset, local or gs://")
    parser.add_argument("--limit", help="take only the first N rows of the source (files sorted by name)")
    parser.add_argument("--run_id", default="", help="the run that this job belongs to, for logs and manifest")
    known, rest = parser.parse_known_args(argv)
    for name in ("source", "output"):
        if not getattr(known, name).strip():
            raise BadFlag(
                f"--{name}= is empty; give a path, gs://bucket/path or, as a source, bq://project.dataset.table"
            )
    options = PipelineOptions(rest)
    unknown = set(options.get_all_options(retain_unknown_options=True)) - set(PipelineOptions([]).get_all_options())
    if unknown:
        raise BadFlag(f"--{sorted(unknown)[0]} is a flag neither of this pipeline nor of Beam; see --help")
    if not any(argument == "--runner" or argument.startswith("--runner=") for argument in rest):
        options.view_as(StandardOptions).runner = LOCAL_RUNNER
    return Flags(known.source, known.output, _limit(known.limit), known.run_id), options


def run(flags: Flags, options: PipelineOptions) -> Any:
    """Plan the source, then build and run the pipeline; wait for its end.

    Returns:
        Beam's PipelineResult; the job has ended well, or was submitted by a template's launcher, which does not wait.

    Raises:
        PreprocessError: the source, the output or the rows cannot be used.
    """
    project = options.view_as(GoogleCloudOptions).project or os.environ.get("GOOGLE_CLOUD_PROJECT", "")
    workers = worker_count(options)
    shards = sources.plan(flags.source, births.COLUMNS, workers=workers, project=project, limit=flags.limit)
    target = Target(flags.output, attempt=uuid.uuid4().hex)
    start_attempt(target)
    pipeline = build(shards, target, dataset_spec(flags), options)
    try:
        result = pipeline.run()
        result.wait_until_finish()
    except Exception:
        if options.view_as(StandardOptions).runner == LOCAL_RUNNER:  # elsewhere a worker may still be writing
            clear_own(target)
        raise
    return result


def build(shards: Sequence[Shard], target: Target, spec: DatasetSpec, options: PipelineOptions) -> beam.Pipeline:
    """Return the pipeline over these shards."""
    pipeline = beam.Pipeline(options=options)
    threads = thread_count(options, len(shards))
    (
        pipeline
        | "Create shards" >> beam.Create(list(enumerate(shards)))
        | "Preprocess births" >> PreprocessShards(births.prepare, TemporaryWriters(target), threads)
        | "Publish dataset" >> beam.ParDo(PublishDataset(target, spec))
    )
    return pipeline


def dataset_spec(flags: Flags) -> DatasetSpec:
    """Return what the manifest says of this dataset."""
    columns = []
    for field in births.SCHEMA:
        column: dict[str, Any] = {"name": field.name}
        column["type"] = "string" if pa.types.is_dictionary(field.type) else "float32"
        if field.name in births.UNITS:
            column["unit"] = births.UNITS[field.name]
        if field.name in births.VOCABULARIES:
            column["vocabulary"] = list(births.VOCABULARIES[field.name])
        columns.append(column)
    return DatasetSpec(PIPELINE, flags.source, births.LABEL, columns, flags.limit, flags.run_id)


def thread_count(options: PipelineOptions, shards: int) -> int:
    """Return how many shards one worker has in hand: as many as there are cores, unless the runner sees to that."""
    direct = options.view_as(DirectOptions)
    is_alone = direct.direct_running_mode == "in_memory" and direct.direct_num_workers == 1
    if options.view_as(StandardOptions).runner != LOCAL_RUNNER or not is_alone:
        return 1
    return max(1, min(os.cpu_count() or 1, shards))


def worker_count(options: PipelineOptions) -> int:
    """Return how many workers may read: Dataflow's most, or this machine's cores."""
    worker = options.view_as(WorkerOptions)
    direct = options.view_as(DirectOptions).direct_num_workers
    if options.view_as(StandardOptions).runner == LOCAL_RUNNER:
        return int(direct if direct > 1 else os.cpu_count() or 1)
    return int(worker.max_num_workers or worker.num_workers or CLOUD_WORKERS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; return the exit code."""
    logger = logs.configure()
    try:
        flags, options = parse_flags(sys.argv[1:] if argv is None else argv)
    except BadFlag as error:
        logger.error(str(error), extra=logs.fields("preprocess-refused", error=type(error).__name__))
        return EXIT_REFUSED
    logger = logs.configure(run_id=flags.run_id, job_name=options.view_as(GoogleCloudOptions).job_name or "")
    try:
        logger.info("preprocessing starts", extra=logs.fields("preprocess-started", source=flags.source))
        result = run(flags, options)
    except Exception as error:  # whatever a runner wraps it in, the last line must say what to mend
        known = from_runner(error)
        if known is None:
            logger.exception("the pipeline broke", extra=logs.fields("preprocess-broke"))
            text = f"preprocessing of {flags.source!r} to {flags.output!r} broke: {error}; see the traceback above"
            known = PreprocessError(text)
        logger.error(str(known), extra=logs.fields("preprocess-failed", error=type(known).__name__))
        return EXIT_REFUSED if isinstance(known, FINAL) else EXIT_FAILED
    if getattr(result, "has_job", True):
        logger.info("dataset written", extra=logs.fields("preprocess-finished", output=flags.output, **_counts(result)))
    else:  # a flex template's launcher: Dataflow starts the job from what Beam has written down
        logger.info("pipeline handed to Dataflow", extra=logs.fields("preprocess-submitted", output=flags.output))
    return EXIT_OK


def _limit(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise BadFlag(f"--limit={text} is no whole number from 1 on; leave the flag out to take all rows")
    return int(text)


def _counts(result: Any) -> dict[str, int]:
    """Return the local runner's counters; Dataflow shows its own, and asking for them may fail after a job went well."""
    if hasattr(result, "has_job"):
        return {}
    metrics = result.metrics().query().get("counters", [])
    return {metric.key.metric.name: int(metric.committed or metric.attempted or 0) for metric in metrics}


if __name__ == "__main__":
    sys.exit(main())
