# The local cloud, whole (`python -m localcloud`) or in parts (`python -m localcloud.jobs`). Jobs and model servers run
# inside it as processes, so it carries what they need too. Build from the repository's root:
#   docker build -f deploy/docker/localcloud.Dockerfile -t baton-localcloud .
FROM python:3.11-slim AS build
WORKDIR /build
# The lock file as constraints: the same versions as in the tests, of these extras' packages only. pip takes no hashes
# beside a local project, so they are cut off.
COPY requirements.lock ./
RUN sed -E '/^ +--hash/d; s/ *\\$//' requirements.lock > constraints.txt
COPY pyproject.toml README.md ./
COPY localcloud localcloud
COPY beam beam
COPY trainer trainer
COPY serving serving
RUN python -m venv /opt/baton \
    && /opt/baton/bin/pip install --no-cache-dir --constraint constraints.txt ".[localcloud,beam,trainer,serving]"

FROM python:3.11-slim
COPY --from=build /opt/baton /opt/baton
RUN useradd --system --create-home baton && mkdir /data && chown baton /data
WORKDIR /app
COPY deploy deploy
USER baton
VOLUME /data
ENV PATH=/opt/baton/bin:$PATH PYTHONUNBUFFERED=1
# All addresses inside the container; publish its ports on 127.0.0.1 only, for nobody is asked for a password here.
CMD ["python", "-m", "localcloud", "--data-dir", "/data", "--host", "0.0.0.0", "--images", "deploy/images.toml"]
