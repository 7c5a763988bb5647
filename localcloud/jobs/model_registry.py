"""The model registry: versions of models, their aliases, and which deployed models use them. No HTTP here.

A version is one document, `…/models/<id>@<number>`. "default" is an alias like the others, except that exactly one
version of a model has it.
"""

from collections.abc import Mapping
from typing import Any

from localcloud.jobs import names
from localcloud.jobs.names import Clock, invalid, not_found, precondition, timestamp
from localcloud.jobs.store import Document, Store

KIND = "model_version"
_COUNTER = "model_counter"  # the highest number given: a deleted version's number is never given again
DEFAULT = "default"


class ModelRegistry:
    """All model versions of one jobs service."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def versions(self, model: str) -> list[Document]:
        """Every version of a model (`projects/…/models/<id>`), oldest first; empty when there is no such model."""
        return self._store.documents(KIND, model)

    def models(self, parent: str) -> list[Document]:
        """The default version of every model of a location, newest model first."""
        found = [d for d in self._store.documents(KIND) if DEFAULT in d["aliases"] and d["parent"] == parent]
        return sorted(found, key=lambda d: -int(d["modelCreateUs"]))

    def find(self, reference: str) -> Document:
        """Return the version a reference means: `…/models/<id>`, `…@<number>` or `…@<alias>`; raises ApiError 404."""
        model, _, wanted = reference.partition("@")
        for version in self.versions(model):
            if wanted == str(version["version"]) or (wanted or DEFAULT) in version["aliases"]:
                return version
        raise not_found(reference)

    def last_number(self, model: str) -> int:
        """The highest version number a model ever had; 0 for a new one."""
        counter = self._store.get(_COUNTER, model)
        return int(counter["last"]) if counter else 0

    def add(
        self, model: str, version: int, fields: Mapping[str, Any], aliases: list[str], storage_uri: str
    ) -> Document:
        """Commit a version. The first is the default one; aliases it takes leave the versions that had them."""
        now = self._clock()
        earlier = self.versions(model)
        if not earlier and DEFAULT not in aliases:
            aliases = [DEFAULT, *aliases]
        document = {
            "name": model,
            "parent": names.location_of(model),
            "version": version,
            "aliases": list(dict.fromkeys(aliases)),
            "fields": dict(fields),
            "storageUri": storage_uri,
            "modelCreateUs": earlier[0]["modelCreateUs"] if earlier else now,
            "createUs": now,
            "updateUs": now,
        }
        with self._store.transaction():
            for other in earlier:
                kept = [alias for alias in other["aliases"] if alias not in aliases]
                if kept != other["aliases"]:
                    self._save({**other, "aliases": kept, "updateUs": now})
            self._save(document)
            self._store.put(_COUNTER, model, {"last": max(version, self.last_number(model))})
        return document

    def merge_aliases(self, version: Document, changes: list[str]) -> Document:
        """Add aliases, remove those written `-alias`; the default one can only be moved, never removed."""
        removed = {change[1:] for change in changes if change.startswith("-")}
        added = [change for change in changes if not change.startswith("-")]
        for alias in [*removed, *added]:
            names.check_alias(alias)
        if DEFAULT in removed:
            raise invalid('The alias "default" can not be removed; add it to another version to move it there.')
        removed, added = removed - set(added), [alias for alias in added if alias not in removed]
        now = self._clock()
        mine = [alias for alias in version["aliases"] if alias not in removed]
        changed = {**version, "aliases": list(dict.fromkeys([*mine, *added])), "updateUs": now}
        with self._store.transaction():
            for other in self.versions(version["name"]):
                kept = [alias for alias in other["aliases"] if alias not in added]
                if other["version"] != version["version"] and kept != other["aliases"]:
                    self._save({**other, "aliases": kept, "updateUs": now})
            self._save(changed)
        return changed

    def change(self, version: Document, fields: Mapping[str, Any]) -> Document:
        """Overwrite some fields of a version."""
        changed = {**version, "fields": {**version["fields"], **fields}, "updateUs": self._clock()}
        self._save(changed)
        return changed

    def delete_version(self, version: Document) -> None:
        """Remove one version; not the only one, nor the default one while there are others."""
        if len(self.versions(version["name"])) == 1:
            raise precondition(f"{version['name']} has only one version; delete the model instead.")
        if DEFAULT in version["aliases"]:
            raise precondition(
                f"Version {version['version']} of {version['name']} is the default one; move the alias first."
            )
        self._store.delete(KIND, _key(version["name"], version["version"]))

    def delete(self, model: str) -> None:
        """Remove a model with all its versions."""
        with self._store.transaction():
            for version in self.versions(model):
                self._store.delete(KIND, _key(model, version["version"]))
            self._store.delete(_COUNTER, model)

    def _save(self, document: Document) -> None:
        self._store.put(KIND, _key(document["name"], document["version"]), document, document["name"])


def view(version: Document, deployed: list[dict[str, str]], *, versioned_name: bool = False) -> dict[str, Any]:
    """A version as the API shows it."""
    suffix = f"@{version['version']}" if versioned_name else ""
    shown: dict[str, Any] = {
        **version["fields"],
        "name": version["name"] + suffix,
        "versionId": str(version["version"]),
        "versionAliases": list(version["aliases"]),
        "createTime": timestamp(version["modelCreateUs"]),
        "updateTime": timestamp(version["updateUs"]),
        "versionCreateTime": timestamp(version["createUs"]),
        "versionUpdateTime": timestamp(version["updateUs"]),
        "etag": str(version["updateUs"]),
        "supportedDeploymentResourcesTypes": ["DEDICATED_RESOURCES"],
    }
    if deployed:
        shown["deployedModels"] = deployed
    return shown


def _key(model: str, version: int) -> str:
    return f"{model}@{version}"
