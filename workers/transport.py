"""The HTTP transport under Google's discovery client: no request that makes something is sent twice.

httplib2 sends any request a second time where its connection breaks before the answer, whatever it is told of retries.
"""

import errno
import select
from typing import Any

import httplib2


class Transport(httplib2.Http):  # type: ignore[misc]  # the library has no types
    """httplib2's, without the second try of a POST: by then the service may have taken it.

    A connection that the other side has closed meanwhile is seen before anything is sent on it.
    """

    def _conn_request(self, conn: Any, request_uri: str, method: str, body: Any, headers: Any) -> Any:
        if method == "POST":
            if conn.sock is not None and _has_news(conn.sock):
                conn.close()
            conn = _SentOnce(conn)
        return super()._conn_request(conn, request_uri, method, body, headers)


class _SentOnce:
    """A connection that sends one request and no other."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._is_sent = False

    def request(self, *arguments: Any) -> None:
        if self._is_sent:
            raise ConnectionResetError(errno.ECONNRESET, "the connection was lost after the request had been sent")
        self._is_sent = True
        self._connection.request(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def _has_news(sock: Any) -> bool:
    """Tell whether the idle connection's other side has closed it, or said something out of turn."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))
