"""Write `wire_descriptors.py`: `python -m localcloud.pubsub.wire_generate`.

Run it after raising the version of google-cloud-pubsub; a unit test says when that is due. The broker itself never
imports Google's client: that costs 0.24 s of start-up and 30 MiB of memory, most of it proto-plus wrappers which a server
has no use for.
"""

import base64
import textwrap
import zlib
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2

_TARGET = Path(__file__).with_name("wire_descriptors.py")
_HEADER = '''"""The protocol `google.pubsub.v1` as a compressed FileDescriptorSet. Made by `wire_generate.py`; do not edit.

Source: the descriptors of google-cloud-pubsub (Apache-2.0).
"""

FILES = (
'''


def descriptor_set() -> bytes:
    """Serialised FileDescriptorSet of the protocol, dependencies first, as the installed client knows it."""
    from google.pubsub_v1.types import pubsub, schema

    files = descriptor_pb2.FileDescriptorSet()
    seen: set[str] = set()

    def add(file: Any) -> None:
        if file.name in seen:
            return
        seen.add(file.name)
        for dependency in file.dependencies:
            add(dependency)
        file.CopyToProto(files.file.add())

    add(schema.Schema.pb().DESCRIPTOR.file)
    add(pubsub.Topic.pb().DESCRIPTOR.file)
    return bytes(files.SerializeToString(deterministic=True))


def main() -> None:
    """Overwrite the generated module."""
    packed = base64.b64encode(zlib.compress(descriptor_set(), 9)).decode("ascii")
    lines = "".join(f'    "{line}"\n' for line in textwrap.wrap(packed, 100))
    _TARGET.write_text(f"{_HEADER}{lines})\n", encoding="utf-8")


if __name__ == "__main__":
    main()
