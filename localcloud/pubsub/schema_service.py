"""`google.pubsub.v1.SchemaService`."""

import uuid
from typing import Any

from localcloud.pubsub import names, pages, wire
from localcloud.pubsub.errors import InvalidArgument
from localcloud.pubsub.rpc import Methods
from localcloud.pubsub.schema_types import ENCODING_NAMES, compile_schema
from localcloud.pubsub.schemas import Schema, Schemas

_FULL = 2
_LIST = wire.message_class("ListSchemasResponse")
_LIST_REVISIONS = wire.message_class("ListSchemaRevisionsResponse")
_VALIDATE_SCHEMA = wire.message_class("ValidateSchemaResponse")
_VALIDATE_MESSAGE = wire.message_class("ValidateMessageResponse")


class SchemaService:
    """The SchemaService's methods over one broker's schemas."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas

    def register(self, methods: Methods) -> None:
        """Add the methods to the SchemaService."""
        for name, method in (
            ("CreateSchema", self.create_schema),
            ("GetSchema", self.get_schema),
            ("ListSchemas", self.list_schemas),
            ("ListSchemaRevisions", self.list_schema_revisions),
            ("CommitSchema", self.commit_schema),
            ("RollbackSchema", self.rollback_schema),
            ("DeleteSchemaRevision", self.delete_schema_revision),
            ("DeleteSchema", self.delete_schema),
            ("ValidateSchema", self.validate_schema),
            ("ValidateMessage", self.validate_message),
        ):
            methods.unary(name, f"{name}Request", method)

    def _named(self, name: str) -> tuple[Schema, str]:
        """A schema and a revision id, empty for the newest, from `projects/P/schemas/S[@revision]`."""
        base, _, revision_id = name.partition("@")
        return self._schemas.get(names.check(base, "schemas")), revision_id

    async def create_schema(self, request: Any, context: Any) -> Any:
        """Create a schema with its first revision."""
        parent = names.check_project(request.parent)
        schema_id = request.schema_id or f"server-picked-{uuid.uuid4().hex}"
        return await self._schemas.create(names.check(f"{parent}/schemas/{schema_id}", "schemas"), request.schema)

    async def get_schema(self, request: Any, context: Any) -> Any:
        """A schema's newest revision, or the one asked for."""
        schema, revision_id = self._named(request.name)
        return _shown(schema.revision(revision_id).config, request.view or _FULL)

    async def list_schemas(self, request: Any, context: Any) -> Any:
        """A project's schemas, by name, each as its newest revision."""
        prefix = names.check_project(request.parent) + "/schemas/"
        wanted = [name for name in self._schemas.names() if name.startswith(prefix)]
        found, token = pages.page(request.page_size, request.page_token, pages.of_list(wanted))
        newest, token = pages.fitted(
            found, token, lambda name: _shown(self._schemas.get(name).revision("").config, request.view)
        )
        return _LIST(schemas=newest, next_page_token=token)

    async def list_schema_revisions(self, request: Any, context: Any) -> Any:
        """A schema's revisions, newest first."""
        schema, _ = self._named(request.name)
        by_age = {f"{index:04}": item.config for index, item in enumerate(reversed(schema.revisions))}
        found, token = pages.page(request.page_size, request.page_token, pages.of_list(list(by_age)))
        shown, token = pages.fitted(found, token, lambda key: _shown(by_age[key], request.view))
        return _LIST_REVISIONS(schemas=shown, next_page_token=token)

    async def commit_schema(self, request: Any, context: Any) -> Any:
        """Add a revision."""
        schema, _ = self._named(request.name)
        return await self._schemas.commit(schema, request.schema)

    async def rollback_schema(self, request: Any, context: Any) -> Any:
        """Add a revision that repeats an earlier one."""
        schema, _ = self._named(request.name)
        if not request.revision_id:
            raise InvalidArgument(f"a rollback of {schema.name} names no revision_id; set it.")
        return await self._schemas.commit(schema, schema.revision(request.revision_id).config)

    async def delete_schema_revision(self, request: Any, context: Any) -> Any:
        """Delete one revision; answers the newest that is left."""
        schema, revision_id = self._named(request.name)
        revision_id = revision_id or request.revision_id
        if not revision_id:
            raise InvalidArgument(f"{request.name} names no revision; append '@' and its id.")
        await self._schemas.delete_revision(schema, revision_id)
        return schema.revision("").config

    async def delete_schema(self, request: Any, context: Any) -> Any:
        """Delete a schema and all its revisions."""
        schema, _ = self._named(request.name)
        await self._schemas.delete(schema)
        return wire.Empty()

    async def validate_schema(self, request: Any, context: Any) -> Any:
        """Check a definition without keeping it."""
        names.check_project(request.parent)
        await compile_schema(request.schema)
        return _VALIDATE_SCHEMA()

    async def validate_message(self, request: Any, context: Any) -> Any:
        """Check a message against a kept schema or a given one."""
        names.check_project(request.parent)
        if request.encoding not in ENCODING_NAMES:
            raise InvalidArgument("encoding is not set; set JSON or BINARY.")
        if request.WhichOneof("schema_spec") == "name":
            schema, revision_id = self._named(request.name)
            compiled = await self._schemas.compiled(schema.revision(revision_id))
        else:
            compiled = await compile_schema(request.schema)
        try:
            compiled.check(bytes(request.message), request.encoding)
        except InvalidArgument as error:
            raise InvalidArgument(f"the message {error}") from None
        return _VALIDATE_MESSAGE()


def _shown(config: Any, view: int) -> Any:
    """The message, without its definition in the BASIC view."""
    if view == _FULL:
        return config
    basic = wire.Schema()
    basic.CopyFrom(config)
    basic.ClearField("definition")
    return basic
