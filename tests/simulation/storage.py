"""Simulated Cloud Storage: strongly consistent objects with generations, as each worker sees them over its network."""

from collections.abc import Iterator

from tests.simulation.faults import READ, STORED
from tests.simulation.network import Network, NoAnswer, Refused
from workers.errors import Conflict, TransientError
from workers.objects import Versioned


class Bucket:
    """The objects themselves, of all buckets in one dict, and who wrote what when."""

    def __init__(self) -> None:
        self.contents: dict[str, Versioned] = {}
        self._generation = 0

    def put(self, name: str, content: bytes) -> int:
        """Write without a precondition, as jobs and people do."""
        self._generation += 1
        self.contents[name] = Versioned(content, self._generation)
        return self._generation

    def write(self, name: str, content: bytes, if_generation: int) -> int:
        there = self.contents.get(name)
        if (0 if there is None else there.generation) != if_generation:
            raise Conflict(name, if_generation)
        return self.put(name, content)

    def names(self, prefix: str) -> list[str]:
        return sorted(name for name in self.contents if name.startswith(prefix))


class WorkerObjects:
    """`workers.objects.Objects` of one worker process."""

    def __init__(self, bucket: Bucket, network: Network) -> None:
        self._bucket = bucket
        self._network = network

    def read(self, name: str) -> Versioned | None:
        try:
            return self._network.call(f"read {name}", lambda: self._bucket.contents.get(name), READ)
        except (Refused, NoAnswer) as fault:
            raise TransientError(f"cannot read {name}: {fault!r}") from fault

    def write(self, name: str, content: bytes, *, if_generation: int) -> int:
        def apply() -> int:
            return self._bucket.write(name, content, if_generation)

        try:
            return self._network.call(f"write {name}", apply, STORED)
        except (Refused, NoAnswer) as fault:
            raise TransientError(f"cannot write {name}: {fault!r}", ambiguous=True) from fault

    def delete(self, name: str) -> None:
        try:
            self._network.call(f"delete {name}", lambda: self._bucket.contents.pop(name, None), STORED)
        except (Refused, NoAnswer) as fault:
            raise TransientError(f"cannot delete {name}: {fault!r}") from fault

    def list(self, prefix: str) -> Iterator[str]:
        try:
            names = self._network.call(f"list {prefix}", lambda: self._bucket.names(prefix), READ)
        except (Refused, NoAnswer) as fault:
            raise TransientError(f"cannot list {prefix}: {fault!r}") from fault
        yield from names


class WorkerSources:
    """`workers.sources.Sources` of one worker process; the bucket's name is part of the object's."""

    def __init__(self, bucket: Bucket, network: Network) -> None:
        self._bucket = bucket
        self._network = network

    def read(self, bucket: str, name: str, generation: int | None = None) -> bytes | None:
        def apply() -> bytes | None:
            there = self._bucket.contents.get(f"gs://{bucket}/{name}")
            if there is None or generation not in (None, there.generation):
                return None
            return there.content

        try:
            return self._network.call(f"read gs://{bucket}/{name}", apply, READ)
        except (Refused, NoAnswer) as fault:
            raise TransientError(f"cannot read gs://{bucket}/{name}: {fault!r}") from fault
