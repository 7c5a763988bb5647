"""projects.list and projects.getServiceAccount: which projects have datasets here."""

from __future__ import annotations

from typing import Any

from localcloud.bigquery.calls import Threads
from localcloud.bigquery.engine import Engine, rows
from localcloud.bigquery.names import check_project
from localcloud.rest import Call, Handler


class ProjectHandlers:
    """Handlers by discovery method id."""

    def __init__(self, engine: Engine, threads: Threads) -> None:
        self._engine = engine
        self._threads = threads

    def table(self) -> dict[str, Handler]:
        """Method id → handler."""
        run = self._threads.run
        return {"bigquery.projects.list": run(self.list), "bigquery.projects.getServiceAccount": run(self.get_account)}

    def list(self, call: Call) -> dict[str, Any]:
        """Projects with a dataset; all on one page."""
        with self._engine.read() as cursor:
            found = [name for (name,) in rows(cursor, "SELECT DISTINCT project FROM meta.datasets ORDER BY project")]
        projects = [
            {"kind": "bigquery#project", "id": one, "friendlyName": one, "projectReference": {"projectId": one}}
            for one in found
        ]
        return {"kind": "bigquery#projectList", "projects": projects, "totalItems": len(found)}

    def get_account(self, call: Call) -> dict[str, Any]:
        """The service account that BigQuery would encrypt with; a made-up one, nothing is encrypted."""
        project = check_project(call.params["projectId"])
        return {"kind": "bigquery#getServiceAccountResponse", "email": f"bq-local@{project}.iam.gserviceaccount.com"}
