"""Cloud Storage subscriptions: messages gathered into objects of text or Avro.

An object closes when it is full, or when its first message has waited for `max_duration`. Its messages stay leased until the
upload is answered, so a crash writes them again into another object: at least once, as the service has it.
Source: cloud.google.com/pubsub/docs/cloudstorage.
"""

import io
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from localcloud.pubsub import wire
from localcloud.pubsub.clock import Clock
from localcloud.pubsub.exports import Exported, ExportState, Trouble, service_url, state_of
from localcloud.pubsub.subscription import Subscription

_TIMEOUT_S = 120.0
_DEFAULT_DURATION_S = 300.0
_DEFAULT_DATETIME = "YYYY-MM-DDThh:mm:ssZ"
# What one object takes at most here, where a batch is held in memory; the service allows 10 GiB.
_MAX_BYTES = 64 << 20
_MAX_MESSAGES = 100_000
_DATETIME_PART = re.compile("YYYY|MM|DD|hh|mm|ss")
_STRFTIME = {"YYYY": "%Y", "MM": "%m", "DD": "%d", "hh": "%H", "mm": "%M", "ss": "%S"}
_AVRO_METADATA = [
    {"name": "subscription_name", "type": "string"},
    {"name": "message_id", "type": "string"},
    {"name": "publish_time", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    {"name": "attributes", "type": {"type": "map", "values": "string"}},
    {"name": "ordering_key", "type": "string"},
]
_AVRO_DATA = {"name": "data", "type": "bytes"}


class StorageSink:
    """Writes into the bucket of one subscription.

    Args:
        client: an `httpx.AsyncClient`.
        environment: says where Cloud Storage is (`STORAGE_EMULATOR_HOST`).
    """

    def __init__(self, subscription: Subscription, client: Any, environment: Mapping[str, str], clock: Clock) -> None:
        config = subscription.config.cloud_storage_config
        self._subscription = subscription
        self._client = client
        self._environment = environment
        self._clock = clock
        self.max_messages = min(config.max_messages or _MAX_MESSAGES, _MAX_MESSAGES)
        self.max_bytes = min(config.max_bytes or _MAX_BYTES, _MAX_BYTES)
        self.gather_s = wire.to_s(config.max_duration) or _DEFAULT_DURATION_S

    async def write(self, batch: list[Exported]) -> list[Exported]:
        """See `Sink`."""
        import httpx

        config = self._subscription.config.cloud_storage_config
        is_avro = config.WhichOneof("output_format") == "avro_config"
        content = self._avro(batch) if is_avro else b"".join(bytes(item.message.data) + b"\n" for item in batch)
        base = service_url(self._environment, "STORAGE_EMULATOR_HOST")
        url = f"{base}/upload/storage/v1/b/{quote(config.bucket, safe='')}/o"
        query = {"uploadType": "media", "name": self._object_name(), "ifGenerationMatch": "0"}
        headers = {"Content-Type": "application/octet-stream" if is_avro else "text/plain"}
        try:
            answer = await self._client.post(url, params=query, content=content, headers=headers, timeout=_TIMEOUT_S)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Trouble(ExportState.NOT_FOUND, f"POST {url}: {error!r}") from None
        if answer.status_code != 200:
            raise Trouble(state_of(answer.status_code), f"POST {url}: {answer.status_code} {answer.text[:300]}")
        return []

    def _object_name(self) -> str:
        config = self._subscription.config.cloud_storage_config
        pattern = config.filename_datetime_format or _DEFAULT_DATETIME
        now = datetime.fromtimestamp(self._clock.time(), UTC)
        stamp = _DATETIME_PART.sub(lambda part: now.strftime(_STRFTIME[part[0]]), pattern)
        return f"{config.filename_prefix}{stamp}_{secrets.token_hex(3)}{config.filename_suffix}"

    def _avro(self, batch: list[Exported]) -> bytes:
        try:
            import fastavro
        except ImportError:
            raise Trouble(ExportState.SCHEMA_MISMATCH, "Avro objects need the package fastavro; install it.") from None
        config = self._subscription.config.cloud_storage_config.avro_config
        fields = [*(_AVRO_METADATA if config.write_metadata else []), _AVRO_DATA]
        schema = fastavro.parse_schema({"type": "record", "name": "PubsubMessage", "fields": fields})
        stream = io.BytesIO()
        fastavro.writer(stream, schema, [self._record(item.message) for item in batch])
        return stream.getvalue()

    def _record(self, message: Any) -> dict[str, Any]:
        return {
            "subscription_name": self._subscription.name,
            "message_id": message.message_id,
            "publish_time": wire.to_us(message.publish_time),
            "attributes": dict(message.attributes),
            "ordering_key": message.ordering_key,
            "data": bytes(message.data),
        }
