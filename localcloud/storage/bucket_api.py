"""The handlers of `storage.buckets.*`, `storage.notifications.*` and the project's service account."""

from typing import Any

from localcloud.rest import Call, Handler, Response
from localcloud.storage import buckets, notifications, rows
from localcloud.storage.database import Database
from localcloud.storage.preconditions import Preconditions

_NO_CONTENT = 204


class BucketApi:
    """One method for each of the API's; each takes a checked call and answers a resource."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def handlers(self) -> dict[str, Handler]:
        """By method id, for `RestApi`."""
        return {
            "storage.buckets.insert": self._insert,
            "storage.buckets.get": self._get,
            "storage.buckets.list": self._list,
            "storage.buckets.patch": self._patch,
            "storage.buckets.update": self._update,
            "storage.buckets.delete": self._delete,
            "storage.buckets.getIamPolicy": self._get_policy,
            "storage.buckets.setIamPolicy": self._set_policy,
            "storage.buckets.testIamPermissions": self._test_permissions,
            "storage.buckets.getStorageLayout": self._storage_layout,
            "storage.notifications.insert": self._insert_notification,
            "storage.notifications.get": self._get_notification,
            "storage.notifications.list": self._list_notifications,
            "storage.notifications.delete": self._delete_notification,
            "storage.projects.serviceAccount.get": self._service_account,
        }

    async def _insert(self, call: Call) -> dict[str, Any]:
        project = call.params["project"]
        row = await self._database.write(lambda tx: buckets.create(tx, project, call.body or {}))
        return rows.bucket_resource(row, call.base_url)

    async def _get(self, call: Call) -> dict[str, Any]:
        row = rows.find_bucket(self._database.reader, call.params["bucket"])
        Preconditions.of(call.params).check(0, row.metageneration)
        return rows.bucket_resource(row, call.base_url)

    async def _list(self, call: Call) -> dict[str, Any]:
        params = call.params
        page = buckets.list_page(
            self._database.reader,
            params["project"],
            params.get("prefix", ""),
            params.get("pageToken", ""),
            params.get("maxResults", 0),
        )
        answer: dict[str, Any] = {"kind": "storage#buckets"}
        if page.buckets:
            answer["items"] = [rows.bucket_resource(row, call.base_url) for row in page.buckets]
        if page.next_page_token:
            answer["nextPageToken"] = page.next_page_token
        return answer

    async def _patch(self, call: Call) -> dict[str, Any]:
        return await self._change(call, is_patch=True)

    async def _update(self, call: Call) -> dict[str, Any]:
        return await self._change(call, is_patch=False)

    async def _change(self, call: Call, *, is_patch: bool) -> dict[str, Any]:
        name, must = call.params["bucket"], Preconditions.of(call.params)
        row = await self._database.write(lambda tx: buckets.update(tx, name, call.body or {}, must, is_patch=is_patch))
        return rows.bucket_resource(row, call.base_url)

    async def _delete(self, call: Call) -> Response:
        name, must = call.params["bucket"], Preconditions.of(call.params)
        await self._database.write(lambda tx: buckets.delete(tx, name, must))
        return Response(_NO_CONTENT)

    async def _get_policy(self, call: Call) -> dict[str, Any]:
        return buckets.get_policy(self._database.reader, call.params["bucket"])

    async def _set_policy(self, call: Call) -> dict[str, Any]:
        name = call.params["bucket"]
        return await self._database.write(lambda tx: buckets.set_policy(tx, name, call.body or {}))

    async def _test_permissions(self, call: Call) -> dict[str, Any]:
        rows.find_bucket(self._database.reader, call.params["bucket"])
        return {"kind": "storage#testIamPermissionsResponse", "permissions": call.params["permissions"]}

    async def _storage_layout(self, call: Call) -> dict[str, Any]:
        row = rows.find_bucket(self._database.reader, call.params["bucket"])
        resource = rows.bucket_resource(row, call.base_url)
        return {
            "kind": "storage#storageLayout",
            "bucket": row.name,
            "location": resource["location"],
            "locationType": resource["locationType"],
            "hierarchicalNamespace": {"enabled": False},
        }

    # -- notifications ---------------------------------------------------------------------------------------------

    async def _insert_notification(self, call: Call) -> dict[str, Any]:
        bucket = call.params["bucket"]
        return await self._database.write(lambda tx: notifications.insert(tx, bucket, call.body or {}))

    async def _get_notification(self, call: Call) -> dict[str, Any]:
        return notifications.get(self._database.reader, call.params["bucket"], call.params["notification"])

    async def _list_notifications(self, call: Call) -> dict[str, Any]:
        rows.find_bucket(self._database.reader, call.params["bucket"])
        found = notifications.list_all(self._database.reader, call.params["bucket"])
        return {"kind": "storage#notifications"} | ({"items": found} if found else {})

    async def _delete_notification(self, call: Call) -> Response:
        bucket, notification = call.params["bucket"], call.params["notification"]
        await self._database.write(lambda tx: notifications.delete(tx, bucket, notification))
        return Response(_NO_CONTENT)

    async def _service_account(self, call: Call) -> dict[str, Any]:
        # Not an e-mail address of a real service agent: nothing on the laptop may be mistaken for one.
        address = f"service-{call.params['projectId']}@gs-project-accounts.local"
        return {"kind": "storage#serviceAccount", "email_address": address}
