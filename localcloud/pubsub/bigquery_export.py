"""BigQuery subscriptions: each message is a row, by `tabledata.insertAll`, with the message id as its insert id.

Source: cloud.google.com/pubsub/docs/bigquery.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any

from localcloud.pubsub.exports import Exported, ExportState, Trouble, service_url, state_of
from localcloud.pubsub.subscription import Subscription

_TIMEOUT_S = 60.0


class BigQuerySink:
    """Writes into the table of one subscription.

    Args:
        client: an `httpx.AsyncClient`.
        environment: says where BigQuery is (`BIGQUERY_EMULATOR_HOST`).
    """

    max_messages = 500
    max_bytes = 4 << 20
    gather_s = 0.0

    def __init__(self, subscription: Subscription, client: Any, environment: Mapping[str, str]) -> None:
        self._subscription = subscription
        self._client = client
        self._environment = environment
        project, dataset, table = subscription.config.bigquery_config.table.replace(":", ".", 1).split(".", 2)
        self._path = f"/bigquery/v2/projects/{project}/datasets/{dataset}/tables/{table}"

    async def write(self, batch: list[Exported]) -> list[Exported]:
        """See `Sink`."""
        types = await self._column_types()
        rows, sent, refused = [], [], []
        for item in batch:
            try:
                row = self._row(item, types)
            except ValueError:
                refused.append(item)
                continue
            rows.append({"insertId": item.message.message_id, "json": row})
            sent.append(item)
        if rows:
            answer = await self._call("POST", f"{self._path}/insertAll", {"rows": rows, "skipInvalidRows": True})
            refused += [sent[error["index"]] for error in answer.get("insertErrors", [])]
        return refused

    async def _column_types(self) -> dict[str, str]:
        table = await self._call("GET", self._path, None)
        return {field["name"]: field["type"] for field in table.get("schema", {}).get("fields", [])}

    def _row(self, item: Exported, types: dict[str, str]) -> dict[str, Any]:
        config, message = self._subscription.config.bigquery_config, item.message
        if config.use_table_schema or config.use_topic_schema:
            row = json.loads(message.data)
            if not isinstance(row, dict):
                raise ValueError("not a JSON object")
            if config.drop_unknown_fields:
                row = {name: value for name, value in row.items() if name in types}
        else:
            row = {"data": _encoded(bytes(message.data), types.get("data", "STRING"))}
        if config.write_metadata:
            row |= {
                "subscription_name": self._subscription.name,
                "message_id": message.message_id,
                "publish_time": message.publish_time.ToJsonString(),
                "attributes": json.dumps(dict(message.attributes)),
            }
            if "ordering_key" in types:
                row["ordering_key"] = message.ordering_key
        return row

    async def _call(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        import httpx

        url = service_url(self._environment, "BIGQUERY_EMULATOR_HOST") + path
        try:
            answer = await self._client.request(method, url, json=body, timeout=_TIMEOUT_S)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Trouble(ExportState.NOT_FOUND, f"{method} {url}: {error!r}") from None
        if answer.status_code != 200:
            raise Trouble(state_of(answer.status_code), f"{method} {url}: {answer.status_code} {answer.text[:300]}")
        return answer.json()


def _encoded(data: bytes, column_type: str) -> str:
    """The data as its column takes it. Raises ValueError for bytes that are no text where text is needed."""
    if column_type.upper() == "BYTES":
        return base64.b64encode(data).decode("ascii")
    return data.decode("utf-8")
