"""Avro and Protocol Buffers: reading a schema's definition, and checking a message against it.

Avro is read by fastavro. A `.proto` text is compiled by Google's own protoc, which comes with grpcio-tools, in a process
of its own: it costs 40 ms once for each revision, and a hostile definition cannot reach into the broker.
"""

import asyncio
import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Protocol

from localcloud.pubsub.errors import InvalidArgument, Unimplemented

PROTOCOL_BUFFER, AVRO = 1, 2
JSON, BINARY = 1, 2
ENCODING_NAMES = {JSON: "JSON", BINARY: "BINARY"}
MAX_DEFINITION_BYTES = 300_000
_PROTOC_TIMEOUT_S = 20.0


class CompiledSchema(Protocol):
    """A schema that can judge messages."""

    def check(self, data: bytes, encoding: int) -> None:
        """Refuse data that does not fit.

        Raises:
            InvalidArgument: it does not; the message says why.
        """


async def compile_schema(config: Any) -> CompiledSchema:
    """Read the definition of a Schema message.

    Raises:
        InvalidArgument: it is malformed.
        Unimplemented: a package that reads this kind is not installed.
    """
    size = len(config.definition.encode())
    if not 0 < size <= MAX_DEFINITION_BYTES:
        raise InvalidArgument(f"a schema definition of {size} bytes; use 1 to {MAX_DEFINITION_BYTES}.")
    if config.type_ == AVRO:
        return _Avro(config.definition)
    if config.type_ == PROTOCOL_BUFFER:
        return _Proto(await asyncio.to_thread(_protoc, config.definition))
    raise InvalidArgument("a schema's type is AVRO or PROTOCOL_BUFFER; set one.")


class _Avro:
    def __init__(self, definition: str) -> None:
        try:
            import fastavro
        except ImportError:
            raise Unimplemented("Avro schemas need the package fastavro; install it beside the broker.") from None
        self._avro = fastavro
        try:
            self.parsed = fastavro.parse_schema(json.loads(definition))
        except Exception as error:  # noqa: BLE001 - fastavro answers malformed input with whatever it stumbled over
            raise InvalidArgument(f"the Avro definition is malformed: {type(error).__name__}: {error}") from None

    def check(self, data: bytes, encoding: int) -> None:
        """See `CompiledSchema`."""
        try:
            if encoding == JSON:
                self._check_json(data)
            else:
                self.read_binary(data)
        except Exception as error:  # noqa: BLE001 - as above: any exception means that the message does not fit
            raise InvalidArgument(f"does not fit its Avro schema: {type(error).__name__}: {error}") from None

    def _check_json(self, data: bytes) -> None:
        text = data.decode("utf-8")
        values = list(self._avro.json_reader(io.StringIO(json.dumps(json.loads(text))), self.parsed))
        if len(values) != 1:
            raise ValueError(f"{len(values)} records where one belongs")
        self._avro.validate(values[0], self.parsed, strict=True)

    def read_binary(self, data: bytes) -> Any:
        """The value encoded in Avro's binary form, which must fill the data."""
        stream = io.BytesIO(data)
        value = self._avro.schemaless_reader(stream, self.parsed, None)
        if stream.tell() != len(data):
            raise ValueError(f"{len(data) - stream.tell()} bytes follow the record")
        return value


class _Proto:
    def __init__(self, descriptors: bytes) -> None:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

        [file] = descriptor_pb2.FileDescriptorSet.FromString(descriptors).file
        if file.dependency:
            raise InvalidArgument(f"the definition imports {file.dependency[0]!r}; a schema stands alone.")
        if len(file.message_type) != 1:
            raise InvalidArgument(
                f"the definition has {len(file.message_type)} top-level messages; write exactly one, others inside it."
            )
        pool = descriptor_pool.DescriptorPool()
        pool.Add(file)
        name = f"{file.package}." if file.package else ""
        descriptor = pool.FindMessageTypeByName(name + file.message_type[0].name)
        self.message_class = message_factory.GetMessageClass(descriptor)

    def check(self, data: bytes, encoding: int) -> None:
        """See `CompiledSchema`."""
        from google.protobuf import json_format
        from google.protobuf.message import DecodeError

        try:
            if encoding == JSON:
                json_format.Parse(data, self.message_class())
            else:
                self.message_class.FromString(data)
        except (json_format.ParseError, DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidArgument(f"does not fit its Protocol Buffers schema: {error}") from None


def _protoc(definition: str) -> bytes:
    """The FileDescriptorSet of one `.proto` text. Blocks."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "schema.proto"), Path(folder, "schema.binpb")
        source.write_text(definition, encoding="utf-8")
        command = ["-m", "grpc_tools.protoc", f"-I{folder}", f"--descriptor_set_out={target}", str(source)]
        try:
            done = subprocess.run(
                [sys.executable, *command], capture_output=True, text=True, timeout=_PROTOC_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise InvalidArgument(
                f"the definition kept protoc busy for {_PROTOC_TIMEOUT_S:g} s; simplify it."
            ) from None
        if "No module named" in done.stderr:
            raise Unimplemented("Protocol Buffers schemas need the package grpcio-tools; install it beside the broker.")
        if done.returncode or not target.exists():
            complaint = done.stderr.replace(folder + "/", "").strip()
            raise InvalidArgument(f"the Protocol Buffers definition is malformed: {complaint[:1000]}")
        return target.read_bytes()
