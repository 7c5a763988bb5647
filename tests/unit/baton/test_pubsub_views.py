"""Topics, subscriptions and messages on a terminal, whatever is in them."""

import base64
import json
import re
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from baton.cli.pubsub_messages import Printer, message_lines
from baton.cli.pubsub_views import backlog_words, no_counts_note, overview_table, purge_warning
from baton.errors import Refused
from baton.profile import Profile
from baton.pubsub.directory import matches, near
from baton.pubsub.inspection import SubscriptionCounts, TopicCounts
from baton.pubsub.message import SeenMessage, read, to_json
from baton.pubsub.overview import Overview, SubscriptionRow, TopicRow
from baton.pubsub.tailing import since_of
from messages import DataReady
from messages.codec import Envelope, encode

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
STEERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def seen(data: bytes = b"", **changes: Any) -> SeenMessage:
    fields: dict[str, Any] = {"message_id": "7", "publish_time": NOW, "attributes": {}, "ordering_key": ""}
    return SeenMessage(**{**fields, "data": data, "size_bytes": len(data) + 20, **changes})


def event() -> SeenMessage:
    fact = DataReady.model_validate({"pipeline": "quick", "source": "gs://data/births.csv", "params": {"limit": 3}})
    data, attributes = encode(Envelope("run-1.data-ready", "run-1", "//baton/client", NOW, fact))
    return seen(data, attributes={**attributes, "colour": "red"})


def shown(message: SeenMessage, width: int = 80) -> list[str]:
    """Return the lines on a terminal of that width."""
    out = StringIO()
    printer = Printer(as_json=False, is_raw=False)
    printer._console = Console(file=out, force_terminal=True, width=width, color_system=None, highlight=False)
    printer.show(message)
    return out.getvalue().splitlines()


def test_an_event_is_shown_by_type_run_attributes_and_data() -> None:
    """What the attributes say twice is said once; the others are all there."""
    head, details = message_lines(event())
    assert head.plain.endswith("baton.data.ready.v1  run run-1")
    assert details[0].plain == (
        "message 7  ce-id=run-1.data-ready  ce-source=//baton/client  ce-time=2026-11-21T09:00:00.000000Z  colour=red"
    )
    assert json.loads(details[1].plain) == {
        "pipeline": "quick",
        "source": "gs://data/births.csv",
        "params": {"limit": 3},
    }


def test_what_says_that_it_is_an_event_and_is_none_says_why() -> None:
    """The fault names the field, its value and the mend, as the worker's dead letter would."""
    broken = seen(b'{"pipeline": "Q"}', attributes=dict(event().attributes))
    text = "\n".join(line.plain for line in message_lines(broken)[1])
    assert "no worker can read it: data.pipeline = 'Q'" in text
    assert read(broken).run_id == "run-1"


def test_a_notification_is_shown_by_its_object() -> None:
    """And by the run that it starts."""
    attributes = {
        "notificationConfig": "c",
        "eventType": "OBJECT_FINALIZE",
        "bucketId": "data",
        "objectId": "incoming/a.csv",
        "objectGeneration": "1",
    }
    reading = read(seen(b"{}", attributes=attributes))
    assert reading.title == "OBJECT_FINALIZE gs://data/incoming/a.csv"
    assert reading.run_id.startswith("a-csv-")


@pytest.mark.parametrize(
    ("data", "title"), [(b"", "no data"), (b"[1, 2]", "JSON"), (b"{broken", "text"), (b"\xff\x00", "bytes")]
)
def test_anything_else_is_shown_by_what_it_is(data: bytes, title: str) -> None:
    """Bytes that are no text are shown in hexadecimal."""
    assert read(seen(data)).title == title
    if title == "bytes":
        assert message_lines(seen(data))[1][-1].plain == "ff 00"


HOSTILE = [
    b"\x1b[2J\x1b]0;title\x07\xc2\x9b5n",
    "\u202eevil\u2066".encode(),
    b'{"a": "\\u001b[2J \\u202e \\ud800"}',
    bytes(range(256)) * 20,
    b"\x00" * 5000,
    b"[" * 100_000,
    b"line\r\nline\x0bline\x0cline\x85line",
]


@pytest.mark.parametrize("data", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("place", ["data", "attribute", "key", "type"])
def test_nothing_in_a_message_steers_the_terminal_or_floods_it(data: bytes, place: str) -> None:
    """Wherever it stands: in the data, an attribute's name and value, the ordering key, the event's type."""
    text = data.decode(errors="replace")
    message = {
        "data": seen(data),
        "attribute": seen(attributes={text: text}),
        "key": seen(ordering_key=text),
        "type": seen(data, attributes={"ce-type": text, "ce-subject": text}),
    }[place]
    lines = shown(message)
    assert not STEERS.search("\n".join(lines))
    assert len(lines) < 60
    json.dumps(to_json(message))


def test_no_line_of_a_message_begins_where_a_head_would() -> None:
    """On a terminal what is long is folded below its head: nobody can fake another message."""
    faked = "x" * 78 + "2026-11-21 09:00:00  baton.train.done.v1  run mine"
    head = "y" * 65 + faked
    lines = shown(seen(faked.encode(), attributes={"ce-type": head, "a": faked}))
    assert len(lines) > 4
    assert [line for line in lines[1:] if not line.startswith("  ")] == []
    assert max(map(len, lines)) <= 80


def test_what_is_shown_in_part_says_so() -> None:
    """With the size of the whole."""
    lines = shown(seen(b"x" * 3000))
    assert lines[-1] == "  … 3,020 bytes in all; --json shows all"
    assert "the first 256 KiB" in shown(seen(b"x" * 3000, is_cut=True, size_bytes=9_000_000))[-1]
    assert "bytes in all" not in shown(seen(b"x" * 300))[-1]


def test_a_message_says_what_became_of_its_deliveries() -> None:
    """Leased, failed, its ordering key."""
    head, _ = message_lines(seen(b"x", is_leased=True, failed_deliveries=3, ordering_key="k"))
    assert head.plain.endswith("text  leased  failed 3 times  key k")


def test_json_has_the_bytes_and_the_event() -> None:
    """Data that is no text is there as base64 alone."""
    told = to_json(event())
    assert told["event"]["body"]["source"] == "gs://data/births.csv"
    assert (told["run_id"], told["event"]["id"]) == ("run-1", "run-1.data-ready")
    binary = to_json(seen(b"\xff"))
    assert (binary["data"], base64.b64decode(binary["data_base64"])) == (None, b"\xff")


def counted(**changes: Any) -> SubscriptionCounts:
    numbers = dict.fromkeys(SubscriptionCounts.__slots__, 0)
    return SubscriptionCounts(**{**numbers, "backlog_is_exact": True, **changes})


def table(width: int, counts: SubscriptionCounts | None) -> str:
    row = SubscriptionRow("projects/p/subscriptions/train-worker", "projects/p/topics/t", "pull", ("ordered",), counts)
    topics = (
        TopicRow("projects/p/topics/done[1]", TopicCounts(12_345, 99) if counts else None, (row,)),
        TopicRow("projects/other/topics/lonely", None, ()),
        TopicRow("_deleted-topic_", None, (row,)),
    )
    console = Console(width=width, file=StringIO(), highlight=False)
    console.print(overview_table(Overview(topics, counts is not None, ()), "p", width))
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_the_table_has_room_on_80_columns() -> None:
    """Backlog, leases, age, deliveries, acks and dead letters; the rarer counts stand on wider terminals."""
    full = counted(
        backlog_messages=1_234_567,
        outstanding_messages=1000,
        oldest_unacked_age_s=7000,
        delivered_messages=9_999_999,
        acked_messages=8_888_888,
        dead_lettered_messages=12,
    )
    narrow = table(80, full)
    assert max(len(line.rstrip()) for line in narrow.splitlines()) <= 80
    for cell in ("1,234,567", "1,000", "1 h", "9,999,999", "8,888,888", "12", "ordered", "(deleted topic)"):
        assert cell in narrow
    assert "done[1]" in narrow
    assert "readers" not in narrow
    assert "12,345" in table(160, full)


def test_a_backlog_that_is_a_bound_says_so() -> None:
    """Where a filter was not asked about all of it."""
    assert "≤500" in table(80, counted(backlog_messages=500, backlog_is_exact=False))
    assert backlog_words(counted(backlog_messages=500, backlog_is_exact=False, oldest_unacked_age_s=90)).startswith(
        "at most 500 messages, the oldest 1 min old"
    )
    assert "does not tell" in backlog_words(None)


def test_without_counts_there_is_a_list_and_a_word_where_counts_are() -> None:
    """An emulator has none; the cloud has them elsewhere."""
    assert "backlog" not in table(80, None)
    cloud = Profile({"GOOGLE_CLOUD_PROJECT": "mine"}, home=Path(), source="")
    emulator = Profile({"PUBSUB_EMULATOR_HOST": "127.0.0.1:1"}, home=Path(), source="")
    assert "subscription/list?project=mine" in no_counts_note(cloud)
    assert "peek" in no_counts_note(emulator)


@pytest.mark.parametrize(
    ("name", "word"),
    [("train-worker", "stage train"), ("audit-train-done", "audit"), ("dead-letter-inbox", "dlq"), ("mine", "")],
)
def test_a_purge_of_the_pipelines_own_says_what_is_lost(name: str, word: str) -> None:
    """Others are their owner's business."""
    assert word in purge_warning(name)
    assert bool(word) == bool(purge_warning(name))


@pytest.mark.parametrize(
    ("text", "ago"),
    [("90s", timedelta(seconds=90)), ("1.5h", timedelta(minutes=90)), ("3d", timedelta(days=3))],
)
def test_since_is_a_span_or_a_time(text: str, ago: timedelta) -> None:
    """RFC 3339, with or without a zone, or how long ago."""
    assert since_of(text, NOW) == NOW - ago
    assert since_of("2026-11-21T08:00:00Z", NOW) == NOW - timedelta(hours=1)
    assert since_of("2026-11-20", NOW).tzinfo == UTC


@pytest.mark.parametrize("text", ["", "x", "m", "-5m", "5", "2027-01-01", "1e9d", "9" * 40 + "d", "2026-13-01"])
def test_a_since_that_is_no_past_time_is_refused(text: str) -> None:
    """With how it should look."""
    with pytest.raises(Refused, match=r"like 15m|give 90s, 15m"):
        since_of(text, NOW)


def test_a_pattern_is_a_part_of_a_name_or_has_wildcards() -> None:
    """As people type it."""
    assert matches("worker", "projects/p/subscriptions/train-worker")
    assert matches("train-*", "projects/p/subscriptions/train-worker")
    assert not matches("work?", "projects/p/subscriptions/train-worker")
    assert not matches("projects", "projects/p/subscriptions/train-worker")


def test_near_names_are_the_likely_ones() -> None:
    """A slip of the finger, or a part of the name."""
    names = ["train-worker", "deploy-worker", "audit-train-done"]
    assert near("trian-worker", names)[0] == "train-worker"
    assert near("audit", names) == ["audit-train-done"]
    assert near("zzz", names) == []
