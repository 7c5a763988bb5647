"""The command line: flags, their errors, and what follows from them."""

from dataclasses import replace

import pytest
from apache_beam.options.pipeline_options import GoogleCloudOptions, StandardOptions

from beam import babyweight, births
from beam.errors import BadFlag

REQUIRED = ["--source=births.csv", "--output=/tmp/dataset"]


def test_our_flags_and_beams_flags_are_told_apart() -> None:
    """The job service appends Dataflow's flags; each reaches the one it is for."""
    dataflow = ["--project=p", "--region=us-central1", "--job_name=j", "--temp_location=gs://b/tmp"]
    flags, options = babyweight.parse_flags(
        [*REQUIRED, "--limit=10", "--run_id=r1", "--runner=DataflowRunner", *dataflow]
    )
    assert flags == babyweight.Flags("births.csv", "/tmp/dataset", 10, "r1")
    assert options.view_as(StandardOptions).runner == "DataflowRunner"
    assert options.view_as(GoogleCloudOptions).region == "us-central1"


def test_the_local_runner_is_the_default() -> None:
    """Without --runner the job does not try to download one."""
    _, options = babyweight.parse_flags(REQUIRED)
    assert options.view_as(StandardOptions).runner == "FnApiRunner"


@pytest.mark.parametrize("limit", ["0", "-1", "ten", "1.5", "", "٣"])
def test_a_malformed_limit_is_refused(limit: str) -> None:
    """A limit is a whole number from 1 on; the error repeats the flag as it was given."""
    with pytest.raises(BadFlag, match=f"--limit={limit} is no whole number from 1 on"):
        babyweight.parse_flags([*REQUIRED, f"--limit={limit}"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output=x"], "--source; see .* --help"),
        (["--source=x"], "--output; see .* --help"),
        (["--source=", "--output=x"], "--source= is empty"),
        ([*REQUIRED, "--limt=5"], "--limt is a flag neither of this pipeline nor of Beam"),
    ],
)
def test_missing_empty_and_mistyped_flags_are_refused(arguments: list[str], message: str) -> None:
    """A typing error must not pass as a flag for somebody else."""
    with pytest.raises(BadFlag, match=message):
        babyweight.parse_flags(arguments)


@pytest.mark.parametrize(
    ("extra", "shards", "expected"),
    [
        ([], 0, 1),
        ([], 1, 1),
        ([], 8, 2),
        (["--direct_running_mode=multi_processing", "--direct_num_workers=3"], 8, 1),
        (["--runner=DataflowRunner"], 8, 1),
    ],
)
def test_several_shards_use_all_cores_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, extra: list[str], shards: int, expected: int
) -> None:
    """The local runner works on two shards at once on two cores; a flag decides otherwise; the cloud is left alone."""
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    _, options = babyweight.parse_flags([*REQUIRED, *extra])
    assert babyweight.thread_count(options, shards) == expected


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ([], 2),
        (["--direct_num_workers=3"], 3),
        (["--runner=DataflowRunner", "--max_num_workers=20"], 20),
        (["--runner=DataflowRunner", "--num_workers=5"], 5),
        (["--runner=DataflowRunner"], 25),
    ],
)
def test_streams_are_asked_for_by_the_most_workers_there_may_be(
    monkeypatch: pytest.MonkeyPatch, extra: list[str], expected: int
) -> None:
    """How many will read follows from the flags, or from the cores of this machine."""
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert babyweight.worker_count(babyweight.parse_flags([*REQUIRED, *extra])[1]) == expected


def test_the_manifest_describes_the_columns_of_the_trainer() -> None:
    """Names, types, units and vocabularies travel with the data."""
    flags = babyweight.Flags("births.csv", "out", None, "r1")
    spec = babyweight.dataset_spec(flags)
    assert spec.label == "weight_pounds"
    assert [(column["name"], column["type"]) for column in spec.columns] == [
        ("weight_pounds", "float32"),
        ("is_male", "string"),
        ("mother_age", "float32"),
        ("plurality", "string"),
        ("gestation_weeks", "float32"),
    ]
    assert spec.columns[0]["unit"] == "lb"
    assert spec.columns[1]["vocabulary"] == list(births.SEXES)
    assert babyweight.dataset_spec(replace(flags, limit=5)).limit == 5
