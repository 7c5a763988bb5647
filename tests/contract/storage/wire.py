"""Cloud Storage's protocol, spoken without the stock client."""

import http.client
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

STEP_BYTES = 256 * 1024


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        value: dict[str, object] = json.loads(self.body)
        return value

    @property
    def message(self) -> str:
        return str(json.loads(self.body)["error"]["message"])


class Wire:
    """A connection, and a bucket of its own to talk about."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self.bucket = f"bucket-{uuid.uuid4().hex}"
        made = self.send("POST", "/storage/v1/b?project=baton-local", json.dumps({"name": self.bucket}))
        assert made.status == 200, made

    def send(self, method: str, url: str, body: bytes | str = b"", **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(method, url, body, named)
        response = self._connection.getresponse()
        lowered = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, lowered, response.read())

    def object(self, name: str) -> str:
        return f"/storage/v1/b/{self.bucket}/o/{quote(name, safe='')}"

    def upload(self, name: str, data: bytes, query: str = "", **headers: str) -> Answer:
        url = f"/upload/storage/v1/b/{self.bucket}/o?uploadType=media&name={quote(name, safe='')}{query}"
        return self.send("POST", url, data, **headers)

    def download(self, name: str, **headers: str) -> Answer:
        return self.send("GET", self.object(name) + "?alt=media", **headers)

    def begin(self, name: str, metadata: Mapping[str, object] | None = None, query: str = "", **headers: str) -> str:
        url = f"/upload/storage/v1/b/{self.bucket}/o?uploadType=resumable{query}"
        begun = self.send("POST", url, json.dumps({"name": name, **(metadata or {})}), **headers)
        assert begun.status == 200, begun
        location = urlsplit(begun.headers["location"])
        return f"{location.path}?{location.query}"

    def put(self, session: str, data: bytes, content_range: str) -> Answer:
        return self.send("PUT", session, data, content_range=content_range)

    def close(self) -> None:
        self._connection.close()
