# The workers (`python -m workers.<stage>`) and the command line (`python -m baton`). Build from the repository's root:
#   docker build -f deploy/docker/workers.Dockerfile -t baton-workers .
FROM python:3.11-slim AS build
WORKDIR /build
# The lock file as constraints: the same versions as in the tests, of these extras' packages only. pip takes no hashes
# beside a local project, so they are cut off.
COPY requirements.lock ./
RUN sed -E '/^ +--hash/d; s/ *\\$//' requirements.lock > constraints.txt
COPY pyproject.toml README.md ./
COPY messages messages
COPY workers workers
COPY baton baton
RUN python -m venv /opt/baton && /opt/baton/bin/pip install --no-cache-dir --constraint constraints.txt ".[workers,baton]"

FROM python:3.11-slim
COPY --from=build /opt/baton /opt/baton
RUN useradd --system --create-home baton
WORKDIR /app
COPY pipelines pipelines
COPY deploy deploy
USER baton
ENV PATH=/opt/baton/bin:$PATH PYTHONUNBUFFERED=1
CMD ["python", "-m", "baton", "--help"]
