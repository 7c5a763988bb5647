"""`python -m localcloud.bigquery`: the local BigQuery alone."""

import sys
from typing import Any

from localcloud import endpoints, standalone
from localcloud.bigquery.server import BigQueryServer
from localcloud.ports import PortBook


class _Announced(BigQueryServer):
    """Says where the second door is, and keeps its port from start to start as the first one's is kept."""

    def __init__(self, **arguments: Any) -> None:
        self._book = PortBook(arguments["data_dir"], {"bigquery-storage": arguments.pop("grpc_port")})
        self._listens_on = arguments["host"]
        super().__init__(**arguments, grpc_port=self._book.port("bigquery-storage"))

    async def start(self) -> int:
        port = await super().start()
        self._book.remember("bigquery-storage", self.grpc_port)
        for variable, value in endpoints.variables("bigquery-storage", self._listens_on, self.grpc_port).items():
            print(f"{variable}={value}", flush=True)  # noqa: T201  (for scripts, before the ready line)
        return port


def main(arguments: list[str] | None = None) -> int:
    """Run until a signal; return the exit code."""
    parser = standalone.parser("bigquery", "A laptop-sized BigQuery: REST v2 and the Storage Read API on DuckDB.")
    parser.add_argument("--grpc-port", type=int, default=0, help="port of the Storage Read API; 0 as with --port")
    parser.add_argument("--storage-endpoint", help="where gs:// is, http://HOST:PORT (default: STORAGE_EMULATOR_HOST)")
    options = parser.parse_args(arguments)
    extra = {"grpc_port": options.grpc_port, "storage_endpoint": options.storage_endpoint}
    return standalone.run("bigquery", options, _Announced, **extra)


if __name__ == "__main__":
    sys.exit(main())
