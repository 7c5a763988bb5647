"""Schemas: Avro and Protocol Buffers."""

import io
import json
from typing import Any

import fastavro
import pytest

from localcloud.pubsub.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from localcloud.pubsub.schema_service import SchemaService
from tests.unit.pubsub.lab import TOPIC, Lab

PROTO, AVRO = 1, 2
JSON, BINARY = 1, 2
SCHEMA = "projects/p/schemas/birth"
AVRO_V1 = json.dumps({"type": "record", "name": "Birth", "fields": [{"name": "weeks", "type": "int"}]})
AVRO_V2 = json.dumps(
    {
        "type": "record",
        "name": "Birth",
        "fields": [{"name": "weeks", "type": "int"}, {"name": "note", "type": ["null", "string"], "default": None}],
    }
)
PROTO_V1 = 'syntax = "proto3"; message Birth { int32 weeks = 1; message Inner { string a = 1; } Inner inner = 2; }'


def _create(lab: Lab, definition: str = AVRO_V1, kind: int = AVRO) -> Any:
    service = SchemaService(lab.schemas)
    schema = {"type_": kind, "definition": definition}
    return lab.call(service.create_schema, "CreateSchemaRequest", parent="projects/p", schema=schema, schema_id="birth")


def _commit(lab: Lab, definition: str, kind: int = AVRO) -> Any:
    schema = {"name": SCHEMA, "type_": kind, "definition": definition}
    return lab.call(SchemaService(lab.schemas).commit_schema, "CommitSchemaRequest", name=SCHEMA, schema=schema)


def _demand(lab: Lab, encoding: int = JSON, **settings: str) -> None:
    lab.create_topic(TOPIC, schema_settings={"schema": SCHEMA, "encoding": encoding, **settings})
    lab.subscribe()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nope",
        "[1]",
        '{"weeks": "forty"}',
        '{"weeks": 1.5}',
        '{"weeks": 99999999999}',
        "{}",
        '{"weeks": 1} {"weeks": 2}',
        '{"weeks": 1}\n{"weeks": 2}',
    ],
)
def test_message_that_does_not_fit_avro_json_is_refused(lab: Lab, text: str) -> None:
    """A topic with a schema takes fitting messages only; the whole request is refused."""
    _create(lab)
    _demand(lab)
    with pytest.raises(InvalidArgument, match=r"messages\[1\]|data or at least one"):
        lab.publish('{"weeks": 39}', text)
    assert lab.data() == []


def test_message_carries_the_revision_it_fits(lab: Lab) -> None:
    """A fitting message is marked with schema, encoding and revision, the newest that fits."""
    first = _create(lab)
    second = _commit(lab, AVRO_V2)
    _demand(lab)
    lab.publish('{"weeks": 39, "note": {"string": "x"}}')
    [received] = lab.take()
    assert dict(received.message.attributes) == {
        "googclient_schemaencoding": "JSON",
        "googclient_schemaname": SCHEMA,
        "googclient_schemarevisionid": second.revision_id,
    }
    assert first.revision_id != second.revision_id


def test_topic_may_pin_its_revisions(lab: Lab) -> None:
    """With last_revision_id set, newer revisions do not count, also after a crash."""
    first = _create(lab)
    _commit(lab, json.dumps({"type": "record", "name": "B", "fields": [{"name": "other", "type": "string"}]}))
    _demand(lab, last_revision_id=first.revision_id)
    lab.crash()
    with pytest.raises(InvalidArgument):
        lab.publish('{"other": "x"}')
    lab.publish('{"weeks": 1}')


def test_avro_binary(lab: Lab) -> None:
    """Binary Avro must fill the message exactly."""
    _create(lab)
    _demand(lab, BINARY)
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(AVRO_V1)), {"weeks": 39})
    text = out.getvalue().decode("latin-1")
    lab.publish(text)
    for bad in (text + "x", "", "\x7f" * 20):
        with pytest.raises(InvalidArgument):
            lab.publish(bad or "ok")


def test_protocol_buffers(lab: Lab) -> None:
    """A .proto text is compiled and messages are checked in both encodings."""
    _create(lab, PROTO_V1, PROTO)
    _demand(lab)
    lab.publish('{"weeks": 39, "inner": {"a": "b"}}')
    for bad in ('{"weeks": "many"}', '{"other": 1}', "nope"):
        with pytest.raises(InvalidArgument, match="Protocol Buffers"):
            lab.publish(bad)


@pytest.mark.parametrize(
    ("kind", "definition", "complaint"),
    [
        (AVRO, "", "1 to"),
        (AVRO, "nope", "malformed"),
        (AVRO, '{"type": "recor"}', "malformed"),
        (AVRO, "5", "malformed"),
        (PROTO, "nope", "malformed"),
        (PROTO, 'syntax = "proto3"; message A {} message B {}', "top-level"),
        (PROTO, 'syntax = "proto3";', "top-level"),
        (PROTO, 'syntax = "proto3"; import "google/protobuf/empty.proto"; message A {}', "imports"),
        (0, AVRO_V1, "type"),
    ],
)
def test_malformed_definition_is_refused(lab: Lab, kind: int, definition: str, complaint: str) -> None:
    """A schema that cannot be read is refused with the reason, and its name stays free."""
    with pytest.raises(InvalidArgument, match=complaint):
        _create(lab, definition, kind)
    _create(lab)


def test_revisions(lab: Lab) -> None:
    """Revisions are listed newest first, rolled back to, and deleted but for the last; all of it survives a crash."""
    service = SchemaService(lab.schemas)
    first, second = _create(lab), _commit(lab, AVRO_V2)
    rolled = lab.call(service.rollback_schema, "RollbackSchemaRequest", name=SCHEMA, revision_id=first.revision_id)
    assert rolled.definition == AVRO_V1
    lab.crash()
    service = SchemaService(lab.schemas)
    listed = lab.call(service.list_schema_revisions, "ListSchemaRevisionsRequest", name=SCHEMA, page_size=2)
    assert [item.revision_id for item in listed.schemas] == [rolled.revision_id, second.revision_id]
    assert listed.next_page_token
    got = lab.call(service.get_schema, "GetSchemaRequest", name=f"{SCHEMA}@{second.revision_id}")
    assert got.definition == AVRO_V2
    for revision_id in (first.revision_id, second.revision_id):
        name = f"{SCHEMA}@{revision_id}"
        lab.call(service.delete_schema_revision, "DeleteSchemaRevisionRequest", name=name)
    with pytest.raises(FailedPrecondition, match="only revision"):
        lab.call(service.delete_schema_revision, "DeleteSchemaRevisionRequest", name=f"{SCHEMA}@{rolled.revision_id}")


def test_second_schema_of_a_name_is_refused(lab: Lab) -> None:
    """A name is given once."""
    _create(lab)
    with pytest.raises(AlreadyExists):
        _create(lab)


def test_topic_of_a_deleted_schema_takes_nothing(lab: Lab) -> None:
    """After the schema's deletion its topic says so and refuses messages."""
    _create(lab)
    _demand(lab)
    lab.call(SchemaService(lab.schemas).delete_schema, "DeleteSchemaRequest", name=SCHEMA)
    lab.crash()
    with pytest.raises(FailedPrecondition, match="deleted"):
        lab.publish('{"weeks": 1}')
    topic = lab.call(lab.publisher.get_topic, "GetTopicRequest", topic=TOPIC)
    assert topic.schema_settings.schema == "_deleted-schema_"


def test_topic_with_a_missing_schema_is_refused(lab: Lab) -> None:
    """Schema and encoding are checked when the topic is made."""
    with pytest.raises(NotFound):
        lab.create_topic(TOPIC, schema_settings={"schema": SCHEMA, "encoding": JSON})
    _create(lab)
    with pytest.raises(InvalidArgument, match="encoding"):
        lab.create_topic(TOPIC, schema_settings={"schema": SCHEMA})


def test_validation_without_keeping(lab: Lab) -> None:
    """ValidateSchema and ValidateMessage judge and keep nothing."""
    service = SchemaService(lab.schemas)
    schema = {"type_": AVRO, "definition": AVRO_V1}
    lab.call(service.validate_schema, "ValidateSchemaRequest", parent="projects/p", schema=schema)
    request = {"parent": "projects/p", "schema": schema, "encoding": JSON}
    lab.call(service.validate_message, "ValidateMessageRequest", message=b'{"weeks": 3}', **request)
    with pytest.raises(InvalidArgument, match="the message does not fit"):
        lab.call(service.validate_message, "ValidateMessageRequest", message=b"{}", **request)
    assert lab.schemas.names() == []
