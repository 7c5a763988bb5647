"""Logs of jobs, as Cloud Logging's stock client lists them."""

import time
from typing import Any

import pytest
from googleapiclient.errors import HttpError

from tests.contract.jobs.conftest import PARENT, PROJECT, custom_job, finished


def run(vertex: Any, name: str, script: str) -> str:
    """Run a script to its end; return the job's id."""
    jobs = vertex.customJobs()
    job = jobs.create(parent=PARENT, body=custom_job(name, script)).execute()
    finished(lambda: jobs.get(name=job["name"]).execute(), timeout_s=60)
    return str(job["name"].rpartition("/")[2])


def entries(cloud_logging: Any, filter_text: str, **fields: Any) -> list[dict[str, Any]]:
    body = {"resourceNames": [f"projects/{PROJECT}"], "filter": filter_text, **fields}
    return cloud_logging.list(body=body).execute().get("entries", [])


def texts(found: list[dict[str, Any]]) -> list[str]:
    return [entry.get("textPayload") or entry["jsonPayload"]["message"] for entry in found]


def test_lines_severities_and_order(vertex: Any, cloud_logging: Any, name: str) -> None:
    """Lines come in order of time with the severity they state; JSON lines are structured."""
    script = """echo plain; echo 'WARNING:root:careful'
    echo '{"level": "error", "message": "bad row", "row": 7}'; printf 'no newline at the end'"""
    job_id = run(vertex, name, script)
    mine = f'resource.labels.job_id="{job_id}" AND logName="projects/{PROJECT}/logs/workerpool0-0"'
    found = entries(cloud_logging, mine)
    assert texts(found) == ["plain", "WARNING:root:careful", "bad row", "no newline at the end"]
    assert [entry["severity"] for entry in found] == ["DEFAULT", "WARNING", "ERROR", "DEFAULT"]
    assert found[2]["jsonPayload"]["row"] == 7
    assert [entry["timestamp"] for entry in found] == sorted(entry["timestamp"] for entry in found)
    assert texts(entries(cloud_logging, mine, orderBy="timestamp desc")) == texts(found)[::-1]
    assert texts(entries(cloud_logging, mine + " severity>=WARNING")) == texts(found)[1:3]
    assert texts(entries(cloud_logging, mine + " AND jsonPayload.row=7")) == ["bad row"]
    assert texts(entries(cloud_logging, mine + ' AND textPayload:"CAREFUL"')) == ["WARNING:root:careful"]
    assert texts(entries(cloud_logging, mine + ' AND textPayload=~"^no .*end$"')) == ["no newline at the end"]
    assert entries(cloud_logging, mine + ' AND timestamp<"2020-01-01T00:00:00Z"') == []
    assert len(entries(cloud_logging, mine + ' AND timestamp>"2020-01-01"')) == 4


@pytest.mark.parametrize("order", ["timestamp asc", "timestamp desc"])
def test_pages_give_each_line_once(vertex: Any, cloud_logging: Any, name: str, order: str) -> None:
    """However small the pages, each line comes exactly once and in order."""
    job_id = run(vertex, name, "i=0; while [ $i -lt 25 ]; do echo line $i; i=$((i+1)); done")
    filter_text = f'resource.labels.job_id="{job_id}" AND logName:"workerpool0-0"'
    body = {"resourceNames": [f"projects/{PROJECT}"], "filter": filter_text, "orderBy": order, "pageSize": 4}
    seen: list[str] = []
    while True:
        answer = cloud_logging.list(body=body).execute()
        assert len(answer["entries"]) <= 4
        seen += texts(answer["entries"])
        if "nextPageToken" not in answer:
            break
        body["pageToken"] = answer["nextPageToken"]
    expected = [f"line {n}" for n in range(25)]
    assert seen == (expected if order.endswith("asc") else expected[::-1])


def test_a_hundred_megabytes(vertex: Any, cloud_logging: Any, name: str) -> None:
    """A job that prints 100 MB is run, and its last lines are found without reading all of them."""
    job_id = run(
        vertex, name, "yes 'a line of some length to fill the disk with' | head -c 100000000; echo; echo last words"
    )
    filter_text = f'resource.labels.job_id="{job_id}" AND logName:"workerpool0-0"'
    start = time.perf_counter()
    newest = entries(cloud_logging, filter_text, orderBy="timestamp desc", pageSize=2)
    took_s = time.perf_counter() - start
    assert texts(newest)[0] == "last words"
    print(f"last lines of 100 MB: {took_s * 1000:.0f} ms")
    assert took_s < 2


def test_odd_bytes(vertex: Any, cloud_logging: Any, name: str) -> None:
    """Bytes that are no text, half a surrogate pair, NaN and a line without end are shown as well as they can be."""
    script = r"""printf '\377\376\n'; printf '{"message": "half \\ud800 pair"}\n'; printf '{"message": NaN}\n'
    head -c 2000000 /dev/zero | tr '\0' z; echo; echo after"""
    job_id = run(vertex, name, script)
    found = texts(entries(cloud_logging, f'resource.labels.job_id="{job_id}" AND logName:"workerpool0-0"'))
    assert found[0] == "\ufffd\ufffd"
    assert found[1] == "half ? pair"
    assert found[2] == '{"message": NaN}'
    assert found[3] == "z" * (256 * 1024)
    assert found[-1] == "after"


@pytest.mark.parametrize(
    ("fields", "fragment"),
    [
        ({"filter": "severity>=LOUD"}, "LOUD"),
        ({"filter": "resource.type="}, "Invalid filter"),
        ({"filter": 'textPayload=~"("'}, "regular expression"),
        ({"orderBy": "severity"}, "order_by"),
        ({"pageSize": -1}, "negative"),
        ({"pageToken": "bogus"}, "page_token"),
        ({"resourceNames": []}, "resource_names"),
    ],
)
def test_refusals(vertex: Any, cloud_logging: Any, name: str, fields: dict[str, Any], fragment: str) -> None:
    """What Cloud Logging would refuse is refused, naming the value."""
    run(vertex, name, "echo x")
    with pytest.raises(HttpError) as caught:
        cloud_logging.list(body={"resourceNames": [f"projects/{PROJECT}"], **fields}).execute()
    assert caught.value.resp.status == 400
    assert fragment in str(caught.value)
