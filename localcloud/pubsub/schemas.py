"""Schemas with their revisions, and the topics that demand them."""

import secrets
from dataclasses import dataclass, field
from typing import Any

from localcloud.pubsub import wire
from localcloud.pubsub.broker import Broker
from localcloud.pubsub.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from localcloud.pubsub.schema_types import ENCODING_NAMES, CompiledSchema, compile_schema

DELETED_SCHEMA = "_deleted-schema_"
MAX_REVISIONS = 20


@dataclass(slots=True)
class Revision:
    """One definition; compiled when first needed."""

    no: int
    config: Any
    compiled: CompiledSchema | None = None


@dataclass(slots=True)
class Schema:
    """A name and its revisions, oldest first."""

    name: str
    revisions: list[Revision] = field(default_factory=list)

    def revision(self, revision_id: str) -> Revision:
        """The revision with this id; the newest for an empty id.

        Raises:
            NotFound: there is none.
        """
        for revision in reversed(self.revisions):
            if revision_id in ("", revision.config.revision_id):
                return revision
        raise NotFound(f"schema {self.name} has no revision {revision_id!r}; list its revisions.")


class Schemas:
    """All schemas of a broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._by_name: dict[str, Schema] = {}

    def load(self) -> None:
        """Read the table, at the start and after a refused commit."""
        self._by_name.clear()
        for name, no, config in self._broker.store.read("SELECT name, no, config FROM schemas ORDER BY no"):
            schema = self._by_name.setdefault(name, Schema(name))
            schema.revisions.append(Revision(no, wire.Schema.FromString(config)))

    def names(self) -> list[str]:
        """All names."""
        return list(self._by_name)

    def get(self, name: str) -> Schema:
        """The schema with this name.

        Raises:
            NotFound: there is none.
        """
        schema = self._by_name.get(name)
        if schema is None:
            raise NotFound(f"schema {name} does not exist; create it first (resource={name.rpartition('/')[2]}).")
        return schema

    async def create(self, name: str, config: Any) -> Any:
        """A new schema with its first revision; answers its message.

        Raises:
            AlreadyExists: the name is taken.
        """
        if name in self._by_name:
            raise AlreadyExists(
                f"schema {name} exists already; commit a revision to it (resource={name.rpartition('/')[2]})."
            )
        compiled = await compile_schema(config)
        if name in self._by_name:
            raise AlreadyExists(
                f"schema {name} exists already; commit a revision to it (resource={name.rpartition('/')[2]})."
            )
        schema = self._by_name[name] = Schema(name)
        return await self._add(schema, config.type_, config.definition, compiled)

    async def commit(self, schema: Schema, config: Any) -> Any:
        """A new revision; answers its message.

        Raises:
            InvalidArgument: of another type than the schema.
            FailedPrecondition: there are too many revisions.
        """
        if config.type_ != schema.revisions[-1].config.type_:
            raise InvalidArgument(f"schema {schema.name} cannot change its type; create another schema.")
        if len(schema.revisions) >= MAX_REVISIONS:
            raise FailedPrecondition(f"schema {schema.name} has {MAX_REVISIONS} revisions; delete one first.")
        compiled = await compile_schema(config)
        return await self._add(schema, config.type_, config.definition, compiled)

    async def _add(self, schema: Schema, kind: int, definition: str, compiled: CompiledSchema) -> Any:
        config = wire.Schema(name=schema.name, type_=kind, definition=definition, revision_id=secrets.token_hex(4))
        wire.set_us(config.revision_create_time, self._broker.now_us())
        revision = Revision(self._broker.registry.take_number(), config, compiled)
        schema.revisions.append(revision)
        row = (schema.name, config.revision_id, revision.no, config.SerializeToString())
        self._broker.store.write("INSERT INTO schemas VALUES (?, ?, ?, ?)", [row])
        await self._broker.store.settle()
        return config

    async def delete_revision(self, schema: Schema, revision_id: str) -> None:
        """Remove one revision; the last one goes only with its schema.

        Raises:
            FailedPrecondition: it is the last.
        """
        revision = schema.revision(revision_id)
        if len(schema.revisions) == 1:
            raise FailedPrecondition(f"{revision_id} is the only revision of {schema.name}; delete the schema instead.")
        schema.revisions.remove(revision)
        self._broker.store.write(
            "DELETE FROM schemas WHERE name = ? AND revision_id = ?", [(schema.name, revision.config.revision_id)]
        )
        await self._broker.store.settle()

    async def delete(self, schema: Schema) -> None:
        """Remove a schema; its topics name `_deleted-schema_` from now on and take no messages."""
        del self._by_name[schema.name]
        self._broker.store.write("DELETE FROM schemas WHERE name = ?", [(schema.name,)])
        for topic in self._broker.registry.topics.values():
            if topic.config.schema_settings.schema == schema.name:
                topic.config.schema_settings.schema = DELETED_SCHEMA
                self._broker.registry.save_topic(topic)
        await self._broker.store.settle()

    # ---- topics ----

    def check_settings(self, topic: Any) -> None:
        """Whether a topic's schema settings can be kept.

        Raises:
            InvalidArgument: no encoding.
            NotFound: the schema or a revision of it is missing.
        """
        settings = topic.schema_settings
        schema = self.get(settings.schema)
        if settings.encoding not in ENCODING_NAMES:
            raise InvalidArgument(f"schema_settings.encoding of {topic.name} is not set; set JSON or BINARY.")
        for revision_id in (settings.first_revision_id, settings.last_revision_id):
            schema.revision(revision_id)

    async def admit(self, topic: Any, messages: Any) -> None:
        """Check messages against the topic's schema and mark them with the revision they fit.

        Raises:
            InvalidArgument: one fits no allowed revision.
            FailedPrecondition: the schema was deleted.
        """
        settings = topic.schema_settings
        if settings.schema == DELETED_SCHEMA:
            raise FailedPrecondition(f"the schema of {topic.name} was deleted; give the topic another, or none.")
        allowed = self._allowed(self.get(settings.schema), settings)
        for index, message in enumerate(messages):
            revision = await self._fitting(allowed, bytes(message.data), settings.encoding, f"messages[{index}]")
            message.attributes["googclient_schemaencoding"] = ENCODING_NAMES[settings.encoding]
            message.attributes["googclient_schemaname"] = settings.schema
            message.attributes["googclient_schemarevisionid"] = revision.config.revision_id

    def _allowed(self, schema: Schema, settings: Any) -> list[Revision]:
        first = schema.revision(settings.first_revision_id).no if settings.first_revision_id else 0
        last = schema.revision(settings.last_revision_id).no
        return [revision for revision in reversed(schema.revisions) if first <= revision.no <= last]

    async def _fitting(self, allowed: list[Revision], data: bytes, encoding: int, where: str) -> Revision:
        complaint = "no revision is allowed"
        for revision in allowed:
            try:
                (await self.compiled(revision)).check(data, encoding)
            except InvalidArgument as error:
                complaint = str(error)
            else:
                return revision
        raise InvalidArgument(f"{where} {complaint}")

    async def compiled(self, revision: Revision) -> CompiledSchema:
        """The revision's schema, compiled once."""
        if revision.compiled is None:
            revision.compiled = await compile_schema(revision.config)
        return revision.compiled
