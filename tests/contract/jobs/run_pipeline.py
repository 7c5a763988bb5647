"""Runs a pipeline that Beam's DataflowRunner staged: what stands for the SDK harness image in the tests.

`python run_pipeline.py --pipeline_url=gs://…/pipeline.pb …`: the harness environments are replaced by this process.
"""

import sys

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

EMBEDDED = "beam:env:embedded_python:v1"


def main() -> int:
    flags = dict(argument.removeprefix("--").split("=", 1) for argument in sys.argv[1:])
    with FileSystems.open(flags["pipeline_url"]) as file:
        pipeline = beam_runner_api_pb2.Pipeline.FromString(file.read())
    for environment in pipeline.components.environments.values():
        environment.urn, environment.payload = EMBEDDED, b""
        del environment.dependencies[:]
    result = FnApiRunner().run_via_runner_api(pipeline, PipelineOptions([]))
    print(f"pipeline {flags['job_name']} ended {result.wait_until_finish()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
