"""The filter language of lists and logs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud.jobs import filters
from localcloud.rest import ApiError

FIELDS = {"display_name": "train-7", "state": "JOB_STATE_RUNNING", "create_time": "2026-01-31T12:00:00.000001Z"}
LABELS = {"run": "r1", "step-kind": "train", "a key": "x", "dotted.key": "y"}


def holds(text: str) -> bool:
    fields = {name: lambda resource, value=value: value for name, value in FIELDS.items()}
    return filters.ResourceFilter(text, fields)({"labels": LABELS})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("  ", True),
        ('labels.run="r1"', True),
        ("labels.run=r1", True),
        ("labels.run='r1'", True),
        ("labels.run = r2", False),
        ("labels.step-kind=train", True),
        ('labels."a key"=x', True),
        ("labels.dotted.key=y", True),
        ("labels.run:*", True),
        ("labels:run", True),
        ("labels:walk", False),
        ("labels.walk!=r1", True),
        ('display_name:"train-*"', True),
        ('display_name:"train"', False),
        ('displayName="train-7"', True),
        ("state=JOB_STATE_RUNNING", True),
        ('create_time>"2026-01-31T12:00:00Z"', True),
        ('create_time<="2026-01-31T13:00:00+01:00"', False),
        ('create_time="2026-01-31T12:00:00.000001Z"', True),
        ("create_time>2026-01-31T11:00:00Z", True),
        ("labels.run=r1 labels.step-kind=train", True),
        ("labels.run=r1 AND NOT labels.step-kind=train", False),
        ("-labels.run=r2", True),
        ("NOT (labels.run=r1 OR state=x)", False),
        ("labels.run=r2 AND labels.run=r3 OR labels.run=r1", False),  # OR binds tighter: r2 AND (r3 OR r1)
        ("labels.run=r1 OR labels.run=r3 AND labels.run=r2", False),  # (r1 OR r3) AND r2
        ("state=(JOB_STATE_FAILED OR JOB_STATE_RUNNING)", True),
        ("state=JOB_STATE_FAILED OR state=JOB_STATE_RUNNING", True),
        ("state=JOB_STATE_FAILED OR state=JOB_STATE_QUEUED", False),
        ("state=JOB_STATE_FAILED OR displayName=train-7", True),
        ("state=JOB_STATE_FAILED OR state!=JOB_STATE_FAILED", True),
        (
            'createTime="2026-01-31T12:00:00Z" OR createTime="2026-01-31T13:00:00.000001+01:00"',
            True,
        ),  # moments, not texts
        ("state=JOB_STATE_FAILED OR labels.run=r1", True),
        (r'display_name="train\-7"', True),
    ],
)
def test_meaning(text: str, expected: bool) -> None:
    """A filter means what Google's documentation says."""
    assert holds(text) is expected


@pytest.mark.parametrize(
    "text",
    [
        "labels.run=",
        "=r1",
        "AND",
        "labels.run=r1 AND",
        "(labels.run=r1",
        "labels.run=r1)",
        'labels.run="open',
        "colour=red",
        "labels.run<r1",
        "labels=r1",
        "state>x",
        "create_time>yesterday",
        "create_time>2026-99-31",
        "bare",
        "display_name.first=x",
        "labels.run=(a b)",
        "x" * 20_001,
    ],
)
def test_what_cannot_be_read_is_refused(text: str) -> None:
    """A filter that cannot be read, or asks for what is not supported, is a 400 that says so."""
    with pytest.raises(ApiError, match="filter") as caught:
        holds(text)
    assert caught.value.code == 400


@given(st.text(alphabet="labesrun.=:<>!~\"'()-AND OT*r1\\", max_size=40))
def test_no_filter_crashes(text: str) -> None:
    """Whatever is typed, the answer is yes, no or a 400."""
    try:
        holds(text)
    except ApiError as refusal:
        code = refusal.code
    else:
        code = 400
    assert code == 400
