"""The handlers of `storage.objects.*`, uploads excepted."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from localcloud.rest import Call, Handler, Response
from localcloud.storage import errors, objects, rows
from localcloud.storage.contents import Content, Contents, ContentWriter
from localcloud.storage.database import Database, Transaction
from localcloud.storage.downloads import Downloads, Wanted, check_etag
from localcloud.storage.listing import MAX_PAGE, Query, list_objects
from localcloud.storage.preconditions import NO_PRECONDITIONS, Preconditions
from localcloud.storage.uploads import Uploads

_NO_CONTENT = 204
_MAX_SOURCES = 32  # of one compose
_REWRITE_STEP_BYTES = 1024 * 1024


class ObjectApi:
    """One method for each of the API's; each takes a checked call and answers a resource."""

    def __init__(self, database: Database, contents: Contents, uploads: Uploads, downloads: Downloads) -> None:
        self._database = database
        self._contents = contents
        self._uploads = uploads
        self._downloads = downloads

    def handlers(self) -> dict[str, Handler]:
        """By method id, for `RestApi`."""
        return {
            "storage.objects.insert": self._uploads.insert,
            "storage.objects.get": self._get,
            "storage.objects.list": self._list,
            "storage.objects.patch": self._patch,
            "storage.objects.update": self._update,
            "storage.objects.delete": self._delete,
            "storage.objects.copy": self._copy,
            "storage.objects.rewrite": self._rewrite,
            "storage.objects.move": self._move,
            "storage.objects.compose": self._compose,
        }

    async def _get(self, call: Call) -> dict[str, Any] | Response:
        bucket, name, generation = _named(call.params)
        must = Preconditions.of(call.params)
        if call.match.media == "download" or call.raw_query.get("alt") == "media":
            return await self._downloads.answer(Wanted(bucket, name, generation, must), call.headers)
        row = rows.get_object(self._database.reader, bucket, name, generation)
        must.check(row.generation, row.metageneration)
        check_etag(row, call.headers)
        return rows.object_resource(row, call.base_url)

    async def _list(self, call: Call) -> dict[str, Any]:
        params = call.params
        if params.get("softDeleted") or params.get("filter"):
            raise errors.not_implemented("The local cloud lists neither soft-deleted objects nor by context filters.")
        query = Query(
            params["bucket"],
            prefix=params.get("prefix", ""),
            delimiter=params.get("delimiter", ""),
            start_offset=params.get("startOffset", ""),
            end_offset=params.get("endOffset", ""),
            match_glob=params.get("matchGlob", ""),
            page_token=params.get("pageToken", ""),
            max_results=params.get("maxResults", MAX_PAGE),
            is_all_versions=params.get("versions", False),
            is_trailing_delimiter_included=params.get("includeTrailingDelimiter", False),
        )
        page = await self._database.read(lambda db: list_objects(db, query))
        answer: dict[str, Any] = {"kind": "storage#objects"}
        if page.objects:
            answer["items"] = [rows.object_resource(row, call.base_url) for row in page.objects]
        if page.prefixes:
            answer["prefixes"] = page.prefixes
        if page.next_page_token:
            answer["nextPageToken"] = page.next_page_token
        return answer

    async def _patch(self, call: Call) -> dict[str, Any]:
        sent = {key: value for key, value in (call.body or {}).items() if key in rows.OBJECT_FIELDS}
        return await self._change(call, lambda old: rows.merge_patch(old, sent))

    async def _update(self, call: Call) -> dict[str, Any]:
        sent = rows.object_fields(call.body or {})
        return await self._change(call, lambda _: {"contentType": objects.DEFAULT_CONTENT_TYPE, **sent})

    async def _change(self, call: Call, change: Any) -> dict[str, Any]:
        bucket, name, generation = _named(call.params)
        must = Preconditions.of(call.params)

        def update(transaction: Transaction) -> rows.Object:
            found = rows.get_object(transaction.db, bucket, name, generation)
            return objects.update(transaction, found, change(found.fields), must, call.base_url)

        return rows.object_resource(await self._database.write(update), call.base_url)

    async def _delete(self, call: Call) -> Response:
        bucket, name, generation = _named(call.params)
        must = Preconditions.of(call.params)
        await self._database.write(
            lambda transaction: objects.delete(transaction, bucket, name, generation, must, call.base_url)
        )
        return Response(_NO_CONTENT)

    # -- copies ----------------------------------------------------------------------------------------------------

    async def _copy(self, call: Call) -> dict[str, Any]:
        return await self._copy_to(call, self._source(call), call.params["destinationBucket"])

    async def _move(self, call: Call) -> dict[str, Any]:
        params = call.params
        if params["sourceObject"] == params["destinationObject"]:
            raise errors.invalid("The source and destination of a move must differ.")
        source = rows.get_object(self._database.reader, params["bucket"], params["sourceObject"])
        return await self._copy_to(call, source, params["bucket"], is_move=True)

    async def _copy_to(self, call: Call, source: rows.Object, bucket: str, *, is_move: bool = False) -> dict[str, Any]:
        target = _target(call, bucket, call.params["destinationObject"], _copied_fields(source, call.body))
        source_must = Preconditions.of(call.params, "Source")

        def copy(transaction: Transaction) -> rows.Object:
            created = objects.copy(transaction, source, source_must, target)
            if is_move:
                gone = (source.bucket, source.name, source.generation)
                objects.delete(transaction, *gone, NO_PRECONDITIONS, call.base_url)
            return created

        return rows.object_resource(await self._database.write(copy), call.base_url)

    async def _rewrite(self, call: Call) -> dict[str, Any]:
        """Copy in one call, or in as many as `maxBytesRewrittenPerCall` asks for.

        The token says which generation is being copied and how far; it holds across restarts, for nothing is kept.
        """
        params = call.params
        source = self._source(call)
        done_bytes = 0
        if params.get("rewriteToken"):
            source, done_bytes = self._resume(call, source)
        step_bytes = int(params.get("maxBytesRewrittenPerCall") or 0)
        if step_bytes % _REWRITE_STEP_BYTES:
            raise errors.invalid(
                f"maxBytesRewrittenPerCall={step_bytes} must be a multiple of {_REWRITE_STEP_BYTES} bytes."
            )
        answer = {"kind": "storage#rewriteResponse", "objectSize": str(source.size_bytes)}
        done_bytes += step_bytes or source.size_bytes
        if done_bytes < source.size_bytes:
            Preconditions.of(params, "Source").check(source.generation, source.metageneration)
            token = _encode_token([source.generation, done_bytes, _fingerprint(call)])
            return {**answer, "done": False, "totalBytesRewritten": str(done_bytes), "rewriteToken": token}
        resource = await self._copy_to(call, source, params["destinationBucket"])
        return {**answer, "done": True, "totalBytesRewritten": str(source.size_bytes), "resource": resource}

    def _resume(self, call: Call, source: rows.Object) -> tuple[rows.Object, int]:
        generation, done_bytes, fingerprint = _decode_token(call.params["rewriteToken"])
        if fingerprint != _fingerprint(call):
            raise errors.invalid("The rewriteToken belongs to another request; repeat the request that answered it.")
        return rows.get_object(self._database.reader, source.bucket, source.name, generation), done_bytes

    def _source(self, call: Call) -> rows.Object:
        params = call.params
        generation = int(params["sourceGeneration"]) if params.get("sourceGeneration") else None
        return rows.get_object(self._database.reader, params["sourceBucket"], params["sourceObject"], generation)

    # -- compose ---------------------------------------------------------------------------------------------------

    async def _compose(self, call: Call) -> dict[str, Any]:
        bucket, body = call.params["destinationBucket"], call.body or {}
        sources = self._sources(bucket, body.get("sourceObjects", []))
        fields = rows.object_fields(body.get("destination") or {})
        fields.setdefault("contentType", sources[0].fields.get("contentType", objects.DEFAULT_CONTENT_TYPE))
        target = _target(call, bucket, call.params["destinationObject"], fields)
        content = await self._concatenate(sources)
        is_move = bool(body.get("deleteSourceObjects"))
        try:
            row = await self._database.write(
                lambda transaction: objects.compose(transaction, sources, target, content, is_move=is_move)
            )
        except Exception:
            if content.data is None:
                self._contents.discard([content.id])
            raise
        return rows.object_resource(row, call.base_url)

    def _sources(self, bucket: str, asked: Sequence[Mapping[str, Any]]) -> list[rows.Object]:
        if not 1 <= len(asked) <= _MAX_SOURCES:
            raise errors.invalid(
                f"The number of source components provided ({len(asked)}) must be 1 to {_MAX_SOURCES}."
            )
        found = []
        for source in asked:
            generation = int(source["generation"]) if source.get("generation") else None
            row = rows.get_object(self._database.reader, bucket, source.get("name", ""), generation)
            wanted = (source.get("objectPreconditions") or {}).get("ifGenerationMatch")
            if wanted is not None and int(wanted) != row.generation:
                raise errors.condition_not_met(f"ifGenerationMatch={wanted} of {row.name}, found {row.generation}.")
            found.append(row)
        return found

    async def _concatenate(self, sources: Sequence[rows.Object]) -> Content:
        writer = ContentWriter(self._contents)
        try:
            for source in sources:
                wanted = Wanted(source.bucket, source.name, source.generation, NO_PRECONDITIONS)
                stored = await self._downloads.answer(wanted, {"accept-encoding": "gzip"})
                if isinstance(stored.body, bytes):
                    await writer.write(stored.body)
                else:
                    async for piece in stored.body:
                        await writer.write(piece)
            content = await writer.finish()
        except BaseException:
            writer.abandon()
            raise
        return replace(content, md5=None, component_count=sum(source.component_count or 1 for source in sources))


def _named(params: Mapping[str, Any]) -> tuple[str, str, int | None]:
    generation = params.get("generation")
    return params["bucket"], params["object"], int(generation) if generation else None


def _target(call: Call, bucket: str, name: str, fields: dict[str, Any]) -> objects.Target:
    return objects.Target(bucket, name, fields, Preconditions.of(call.params), call.base_url)


def _copied_fields(source: rows.Object, body: Mapping[str, Any] | None) -> dict[str, Any]:
    """The source's fields; or, if the request brings a resource, those instead (all or none, as in the cloud)."""
    sent = rows.object_fields(dict(body or {}))
    kept = {key: value for key, value in source.fields.items() if not key.endswith("Hold") and key != "retention"}
    return {"contentType": source.fields.get("contentType", objects.DEFAULT_CONTENT_TYPE), **sent} if sent else kept


def _fingerprint(call: Call) -> str:
    params = call.params
    names = ("sourceBucket", "sourceObject", "sourceGeneration", "destinationBucket", "destinationObject")
    text = json.dumps([[params.get(name) for name in names], call.body], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _encode_token(parts: list[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode()


def _decode_token(token: str) -> tuple[int, int, str]:
    try:
        generation, done_bytes, fingerprint = json.loads(base64.urlsafe_b64decode(token))
        return int(generation), int(done_bytes), str(fingerprint)
    except (ValueError, TypeError):
        raise errors.invalid(f"Invalid rewriteToken {token!r}: pass the one of the answer before, unchanged.") from None
