# The training job for a Vertex AI custom job. Build from the repository's root:
#   docker build -f deploy/docker/trainer.Dockerfile -t baton-trainer .
FROM python:3.11-slim AS build
WORKDIR /build
# The lock file as constraints: the same versions as in the tests, of this extra's packages only. pip takes no hashes
# beside a local project, so they are cut off.
COPY requirements.lock ./
RUN sed -E '/^ +--hash/d; s/ *\\$//' requirements.lock > constraints.txt
COPY pyproject.toml README.md ./
COPY trainer trainer
RUN python -m venv /opt/baton && /opt/baton/bin/pip install --no-cache-dir --constraint constraints.txt ".[trainer]"

FROM python:3.11-slim
COPY --from=build /opt/baton /opt/baton
RUN useradd --system --create-home baton
USER baton
ENV PYTHONUNBUFFERED=1
# Flags come from the job's containerSpec.args, directories from Vertex AI's AIP_* variables.
ENTRYPOINT ["/opt/baton/bin/python", "-m", "trainer.task"]
