"""Which run a message belongs to: one answer, however often and by whomever it is asked."""

import pytest

from messages.identity import ORIGINAL_ID, bare_run_id, original_message_id, run_id_of
from messages.triggers import parse_notification

NOTIFICATION = {
    "notificationConfig": "projects/_/buckets/data/notificationConfigs/1",
    "eventType": "OBJECT_FINALIZE",
    "bucketId": "data",
    "objectId": "incoming/p/x.csv",
    "objectGeneration": "7",
}


def test_an_event_names_its_run() -> None:
    """In its subject; one that can be no run id names none."""
    assert run_id_of({"ce-type": "t", "ce-subject": "r1"}, "m1") == "r1"
    assert run_id_of({"ce-type": "t", "ce-subject": "../r1"}, "m1") == ""
    assert run_id_of({"ce-type": "t"}, "m1") == ""


def test_a_notifications_run_follows_from_the_object() -> None:
    """Whatever the message's id is; a deletion starts no run."""
    assert run_id_of(NOTIFICATION, "m1") == run_id_of(NOTIFICATION, "m2") == parse_notification(NOTIFICATION).run_id
    assert run_id_of({**NOTIFICATION, "eventType": "OBJECT_DELETE"}, "m1") == ""


def test_bare_json_sent_again_out_of_the_dead_letters_is_the_same_run() -> None:
    """The first message's id names the run, whichever id the redriven one got."""
    assert run_id_of({}, "123") == "m-123"
    assert run_id_of({ORIGINAL_ID: "123"}, "456") == "m-123"
    assert bare_run_id({ORIGINAL_ID: "123"}, "789") == "m-123"


@pytest.mark.parametrize("forged", ["", "../../runs/x", "a" * 81, "a b", "a\n", "é"])
def test_a_forged_original_id_is_not_believed(forged: str) -> None:
    """It would become part of an object's name: what no service gives as a message id is none."""
    assert original_message_id({ORIGINAL_ID: forged}, "456") == "456"
