"""The REST methods of datasets."""

from __future__ import annotations

import re
from typing import Any

from localcloud.bigquery import catalog
from localcloud.bigquery.calls import Threads
from localcloud.bigquery.engine import Engine
from localcloud.bigquery.errors import Invalid, ResourceInUse
from localcloud.bigquery.jobs.service import JobService
from localcloud.bigquery.names import check_dataset, check_project
from localcloud.bigquery.resources import DATASET_SETTINGS, dataset_doc
from localcloud.rest import Call, Handler

_PAGE = 50
_MAX_PAGE = 1000
_FILTER = re.compile(r"labels\.([a-z0-9_-]+)(?::([a-z0-9_-]*))?", re.IGNORECASE)


class DatasetHandlers:
    """Handlers by discovery method id."""

    def __init__(self, engine: Engine, service: JobService, threads: Threads) -> None:
        self._engine = engine
        self._now_ms = service.now_ms
        self._threads = threads

    def table(self) -> dict[str, Handler]:
        """Method id → handler."""
        run = self._threads.run
        return {
            "bigquery.datasets.insert": run(self.insert),
            "bigquery.datasets.get": run(self.get),
            "bigquery.datasets.list": run(self.list),
            "bigquery.datasets.patch": run(self.patch),
            "bigquery.datasets.update": run(self.update),
            "bigquery.datasets.delete": run(self.delete),
        }

    def insert(self, call: Call) -> dict[str, Any]:
        """Create a dataset."""
        project = check_project(call.params["projectId"])
        reference = call.body.get("datasetReference") or {}
        dataset = check_dataset(reference.get("datasetId", ""))
        if reference.get("projectId", project) != project:
            raise Invalid(
                f"datasetReference.projectId is {reference['projectId']}, the path says {project}; make them equal."
            )
        doc = dataset_doc(project, dataset, call.body, self._now_ms())
        with self._engine.write() as cursor:
            return catalog.create_dataset(cursor, project, dataset, doc)

    def get(self, call: Call) -> dict[str, Any]:
        """One dataset."""
        with self._engine.read() as cursor:
            return catalog.get_dataset(cursor, call.params["projectId"], call.params["datasetId"])

    def list(self, call: Call) -> dict[str, Any]:
        """Datasets by name, those that the filter lets through."""
        params = call.params
        matches = _label_filter(params.get("filter") or "")
        with self._engine.read() as cursor:
            found = [one for one in catalog.list_datasets(cursor, params["projectId"]) if matches(one)]
        after = params.get("pageToken") or ""
        rest = [one for one in found if one["datasetReference"]["datasetId"] > after]
        most = min(int(params.get("maxResults") or _PAGE), _MAX_PAGE)
        keep = ("kind", "id", "datasetReference", "labels", "friendlyName", "location")
        answer: dict[str, Any] = {
            "kind": "bigquery#datasetList",
            "datasets": [{key: one[key] for key in keep if key in one} for one in rest[:most]],
        }
        if len(rest) > most:
            answer["nextPageToken"] = rest[most - 1]["datasetReference"]["datasetId"]
        return answer

    def patch(self, call: Call) -> dict[str, Any]:
        """Change the settings that the body names; null removes one."""
        return self._change(call, {key: call.body[key] for key in DATASET_SETTINGS if key in call.body})

    def update(self, call: Call) -> dict[str, Any]:
        """Replace all settings by the body's."""
        return self._change(call, {key: call.body.get(key) for key in DATASET_SETTINGS})

    def delete(self, call: Call) -> None:
        """Remove a dataset; with its tables only when deleteContents says so."""
        project, dataset = call.params["projectId"], call.params["datasetId"]
        with self._engine.write() as cursor:
            catalog.get_dataset(cursor, project, dataset)
            tables = catalog.list_tables(cursor, project, dataset, self._now_ms())
            if tables and not call.params.get("deleteContents"):
                raise ResourceInUse(
                    f"Dataset {project}:{dataset} is still in use: it holds {len(tables)} tables; delete them, "
                    "or set deleteContents."
                )
            for table in tables:
                catalog.remove_table(cursor, table.ref)
            catalog.delete_dataset(cursor, project, dataset)

    def _change(self, call: Call, settings: dict[str, Any]) -> dict[str, Any]:
        project, dataset = call.params["projectId"], call.params["datasetId"]
        with self._engine.write() as cursor:
            doc = catalog.get_dataset(cursor, project, dataset)
            catalog.check_etag(doc, call.headers.get("if-match"), f"Dataset {project}:{dataset}")
            changed = merge(doc, settings)
            changed["lastModifiedTime"] = str(self._now_ms())
            return catalog.update_dataset(cursor, project, dataset, changed)


def merge(doc: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """The document with settings changed: null removes one, and a null label removes that label."""
    changed = dict(doc)
    for key, value in settings.items():
        if key == "labels" and value is not None:
            labels = {**doc.get("labels", {}), **value}
            value = {name: text for name, text in labels.items() if text is not None}
        if value is None:
            changed.pop(key, None)
        else:
            changed[key] = value
    return changed


def _label_filter(text: str) -> Any:
    """Read `labels.name[:value] …`; every part must hold.

    Raises:
        Invalid: the filter is not of that form. Ignoring it would answer datasets that nobody asked for.
    """
    wanted: list[tuple[str, str | None]] = []
    for part in text.split():
        if part == "AND":
            continue
        found = _FILTER.fullmatch(part)
        if found is None:
            raise Invalid(
                f"Invalid filter {text!r} at {part!r}; write labels.<name>[:<value>], several with spaces between."
            )
        wanted.append((found.group(1), found.group(2)))

    def matches(doc: dict[str, Any]) -> bool:
        labels = doc.get("labels", {})
        return all(name in labels and value in (None, labels[name]) for name, value in wanted)

    return matches
