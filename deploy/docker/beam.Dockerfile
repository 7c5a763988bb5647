# The preprocessing job for Dataflow: one image is both the flex template's launcher and the container of its workers, so
# both run the same versions and the package needs neither a setup file nor a saved session. Build from the repository's root:
#   docker build -f deploy/docker/beam.Dockerfile -t baton-beam-babyweight .
# Keep the tag of the SDK image equal to the version of apache-beam in requirements.lock; the build fails otherwise.
FROM gcr.io/dataflow-templates-base/python311-template-launcher-base:latest AS launcher

FROM apache/beam_python3.11_sdk:2.77.0
COPY --from=launcher /opt/google/dataflow/python_template_launcher /opt/google/dataflow/python_template_launcher
WORKDIR /build
# The lock file as constraints: the same versions as in the tests, of this extra's packages only. pip takes no hashes
# beside a local project, so they are cut off.
COPY requirements.lock ./
RUN sed -E '/^ +--hash/d; s/ *\\$//' requirements.lock > constraints.txt \
    && grep -q "^apache-beam.*==2\.77\.0$" constraints.txt
COPY pyproject.toml README.md ./
COPY beam beam
RUN pip install --no-cache-dir --constraint constraints.txt ".[beam]" && pip check
WORKDIR /template
COPY deploy/docker/beam_babyweight_main.py ./
ENV FLEX_TEMPLATE_PYTHON_PY_FILE=/template/beam_babyweight_main.py
# The launcher is started by its own path; this is the workers' entry point. Give the same image as the job's
# environment.sdkContainerImage (deploy/templates/babyweight.json does).
ENTRYPOINT ["/opt/apache/beam/boot"]
