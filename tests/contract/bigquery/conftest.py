"""A BigQuery to test: our server, or another one if BIGQUERY_EMULATOR_ADDRESS (and, for reads,
BIGQUERY_STORAGE_EMULATOR_ADDRESS)
say where it is. The stock clients are led there as in real use: by BIGQUERY_EMULATOR_HOST, and by an insecure gRPC channel.
"""

import contextlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass

import grpc
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery, storage
from google.cloud.bigquery_storage_v1 import BigQueryReadClient
from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport

from localcloud.bigquery import BigQueryServer
from localcloud.storage import StorageServer
from tests.support.loop_thread import LoopThread

PROJECT = "baton-local"
_count = itertools.count()


@dataclass
class Addresses:
    rest: str
    read: str
    storage: str


@pytest.fixture(scope="module")
def loop() -> Iterator[LoopThread]:
    with LoopThread() as thread:
        yield thread


@pytest.fixture(scope="module")
def addresses(loop: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Addresses:
    """One server for a module's tests: each uses a dataset of its own."""
    given = os.environ.get("BIGQUERY_EMULATOR_ADDRESS")
    if given:
        return Addresses(
            given,
            os.environ.get("BIGQUERY_STORAGE_EMULATOR_ADDRESS", ""),
            os.environ.get("STORAGE_EMULATOR_ADDRESS", ""),
        )

    async def publish(topic: str, data: bytes, attributes: dict[str, str]) -> str:
        raise AssertionError(f"nothing is published here, but {topic} was")

    files = loop.start(StorageServer(data_dir=tmp_path_factory.mktemp("storage"), publish=publish))
    endpoint = f"http://127.0.0.1:{files}"
    server = BigQueryServer(data_dir=tmp_path_factory.mktemp("bigquery"), storage_endpoint=endpoint)
    port = loop.start(server)
    return Addresses(f"http://127.0.0.1:{port}", f"127.0.0.1:{server.grpc_port}", endpoint)


@pytest.fixture(scope="module")
def client(addresses: Addresses) -> Iterator[bigquery.Client]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BIGQUERY_EMULATOR_HOST", addresses.rest)
        found = bigquery.Client(project=PROJECT, credentials=AnonymousCredentials())
        with contextlib.closing(found):
            yield found


@pytest.fixture(scope="module")
def reader(addresses: Addresses) -> Iterator[BigQueryReadClient]:
    if not addresses.read:
        pytest.skip("BIGQUERY_STORAGE_EMULATOR_ADDRESS does not say where the Storage Read API is")
    # A channel without options: messages over 4 MiB would be refused.
    with grpc.insecure_channel(addresses.read) as channel:
        yield BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=channel))


@pytest.fixture(scope="module")
def bucket(addresses: Addresses) -> Iterator[storage.Bucket]:
    if not addresses.storage:
        pytest.skip("STORAGE_EMULATOR_ADDRESS does not say where gs:// is")
    found = storage.Client(
        project=PROJECT, credentials=AnonymousCredentials(), client_options={"api_endpoint": addresses.storage}
    )
    with contextlib.closing(found):
        yield found.create_bucket(f"bigquery-tests-{os.getpid()}-{next(_count)}")


@pytest.fixture
def dataset(client: bigquery.Client) -> Iterator[str]:
    """A dataset of the test's own; its id."""
    name = f"tests_{os.getpid()}_{next(_count)}"
    client.create_dataset(name)
    yield name
    client.delete_dataset(name, delete_contents=True, not_found_ok=True)
