"""From the event loop into threads and back: no handler blocks the loop that the broker shares."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from localcloud.bigquery.errors import BigQueryError
from localcloud.discovery import Discovery, Match
from localcloud.rest import Call, Handler, Response

P = ParamSpec("P")
T = TypeVar("T")

# Calls are short (a transaction or two); jobs have threads of their own, so a long query starves nobody.
_WORKERS = 8

AsyncHandler = Callable[[Call], Awaitable[dict[str, Any] | Response | None]]
SyncHandler = Callable[[Call], dict[str, Any] | Response | None]


# Sent by the stock client, ignored by Google, in no document.
_IGNORED = {"bigquery.jobs.get": "projection", "bigquery.jobs.cancel": "projection"}


class BigQueryDiscovery(Discovery):
    """The document's check, and what the stock client sends besides: booleans spelt as in Python, a stray parameter."""

    def check_request(
        self, match: Match, query: Iterable[tuple[str, str]] | Mapping[str, str], body: object = None
    ) -> tuple[dict[str, Any], Any]:
        """See Discovery."""
        pairs = query.items() if isinstance(query, Mapping) else query
        spelt = {"True": "true", "False": "false"}
        known = match.method.parameters
        ignored = _IGNORED.get(match.method_id)
        read = [
            (name, spelt.get(text, text) if _is_boolean(known, name) else text)
            for name, text in pairs
            if name != ignored
        ]
        return super().check_request(match, read, body)


def _is_boolean(parameters: Mapping[str, Mapping[str, Any]], name: str) -> bool:
    return parameters.get(name, {}).get("type") == "boolean"


class Threads:
    """The threads in which calls run."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="bigquery-call")

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking function in a thread."""
        bound = functools.partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._pool, bound)

    def guard(self, handler: AsyncHandler) -> Handler:
        """A handler whose BigQueryErrors become HTTP answers."""

        async def guarded(call: Call) -> dict[str, Any] | Response | None:
            try:
                return await handler(call)
            except BigQueryError as error:
                raise error.api_error() from error

        return guarded

    def run(self, handler: SyncHandler) -> Handler:
        """A blocking handler, run in a thread."""

        async def threaded(call: Call) -> dict[str, Any] | Response | None:
            return await self.call(handler, call)

        return self.guard(threaded)

    def close(self) -> None:
        """Let the threads go; a call in hand ends first."""
        self._pool.shutdown(wait=True, cancel_futures=True)
