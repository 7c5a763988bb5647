"""The index rules out only jobs that a list would not show."""

import itertools
import random

import pytest

from localcloud.jobs import filters
from localcloud.jobs.custom_jobs import _FIELDS
from localcloud.jobs.job_index import Demand, JobIndex
from localcloud.jobs.records import ACTIVE_STATES, Job

PARENT = "projects/p/locations/l"
STATES = ("JOB_STATE_RUNNING", "JOB_STATE_PENDING", "JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED")


def job(number: int, state: str, **labels: str) -> Job:
    return Job(
        kind="custom",
        project="p",
        location="l",
        job_id=str(number),
        name=f"name-{number % 3}",
        state=state,
        create_us=number,
        update_us=number,
        run_id=f"custom-{number}",
        resource={},
        labels=labels,
    )


JOBS = [
    job(number, state, **{key: value for key, value in (("run", run), ("stage", "train")) if value})
    for number, (state, run) in enumerate(itertools.product(STATES, ("", "r1", "r2", "r2")))
]
FILTERS = (
    "",
    'labels.run="r1"',
    "labels.run:r2",
    "labels.run:*",
    "labels:run",
    'labels.run!="r1"',
    'NOT labels.run="r1"',
    'labels.run="r1" OR labels.run="r2"',
    'labels.run="r1" AND labels.stage="train"',
    'labels.run="r1" AND labels.run="r2"',
    'labels.run="nobody"',
    'state="JOB_STATE_RUNNING"',
    'state!="JOB_STATE_RUNNING"',
    'state="JOB_STATE_RUNNING" OR state="JOB_STATE_PENDING"',
    'state="JOB_STATE_RUNNING" OR state="JOB_STATE_FAILED"',
    'state="JOB_STATE_RUNNING" OR labels.run="r1"',
    'labels.run:* AND (state="JOB_STATE_RUNNING" OR state="JOB_STATE_PENDING")',
    'labels.run="r2" AND (state="JOB_STATE_RUNNING" OR state="JOB_STATE_PENDING")',
    'display_name="name-1" AND labels.run="r2"',
)


def keys(index: JobIndex, text: str) -> list[str]:
    """Return what a list by the filter would look at."""
    wanted = filters.ResourceFilter(text, _FIELDS)
    states = wanted.one_of("state")
    demand = Demand(labels=wanted.labels(), is_active=states is not None and states <= ACTIVE_STATES)
    found = index.newest(PARENT, demand)
    return [one.key for one in reversed(JOBS)] if found is None else list(found)


@pytest.mark.parametrize("text", FILTERS)
def test_no_job_of_the_list_is_ruled_out(text: str) -> None:
    """Whatever the filter: what it takes of the index's jobs is what it takes of all, in the same order."""
    wanted = filters.ResourceFilter(text, _FIELDS)
    looked_at = keys(JobIndex(JOBS), text)
    by_key = {one.key: one for one in JOBS}
    shown = [key for key in looked_at if wanted(by_key[key].document())]
    assert shown == [one.key for one in reversed(JOBS) if wanted(one.document())]


def test_what_is_demanded_is_looked_up() -> None:
    """The look for twins sees one run's jobs, and a poll those that are active."""
    index = JobIndex(JOBS)
    assert len(keys(index, 'labels.run="r1" AND labels.stage="train"')) == 4
    assert len(keys(index, 'labels.run:* AND (state="JOB_STATE_RUNNING" OR state="JOB_STATE_PENDING")')) == 8
    assert list(index.newest(PARENT, Demand(name="name-1", is_active=True)) or ()) == [
        one.key for one in reversed(JOBS) if one.name == "name-1"
    ]
    assert index.newest("projects/p/locations/elsewhere", Demand(name="name-1")) is not None
    assert list(index.newest("projects/p/locations/elsewhere", Demand(name="name-1")) or ()) == []


def test_states_change_and_jobs_go() -> None:
    """A job that ended is not active any more, and one that was deleted is nowhere."""
    index, seed = JobIndex(), 20260101
    print(f"seed {seed}")
    for one in random.Random(seed).sample(JOBS, len(JOBS)):
        index.put(one.but(state="JOB_STATE_QUEUED"))
    for one in JOBS:
        index.put(one)
    active = {one.key for one in JOBS if one.is_active}
    assert set(index.newest(PARENT, Demand(is_active=True)) or ()) == active
    for one in JOBS:
        index.remove(one)
    assert list(index.newest(PARENT, Demand(is_active=True)) or ()) == []
    assert index._found == {}
