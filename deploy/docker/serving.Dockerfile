# The prediction server for Vertex AI's custom-container contract. Build from the repository's root:
#   docker build -f deploy/docker/serving.Dockerfile -t baton-serving .
FROM python:3.11-slim AS build
WORKDIR /build
# The lock file as constraints: the same versions as in the tests, of this extra's packages only. pip takes no hashes
# beside a local project, so they are cut off.
COPY requirements.lock ./
RUN sed -E '/^ +--hash/d; s/ *\\$//' requirements.lock > constraints.txt
COPY pyproject.toml README.md ./
COPY serving serving
RUN python -m venv /opt/baton && /opt/baton/bin/pip install --no-cache-dir --constraint constraints.txt ".[serving]"

FROM python:3.11-slim
COPY --from=build /opt/baton /opt/baton
RUN useradd --system --no-create-home baton
USER baton
ENV PYTHONUNBUFFERED=1
EXPOSE 8080
# Vertex AI's contract wants all addresses inside the container; outside of one the server stays on loopback.
ENTRYPOINT ["/opt/baton/bin/python", "-m", "serving", "--host", "0.0.0.0"]
