"""The job as a process: real births, broken files, and a kill at the worst moment."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from beam.babyweight import EXIT_REFUSED
from tests.integration.beam.conftest import ROOT, Job, manifest_of
from tests.support import loopback_only
from tests.support.waiting import wait_until

SAMPLE = ROOT / "samples" / "natality_2022.csv"
HEADER = "year,month,weight_pounds,is_male,mother_age,plurality,gestation_weeks"


@pytest.mark.slow
def test_the_sample_births(job: Callable[..., Job], tmp_path: Path) -> None:
    """20,000 real births: 23 lack weight or gestation, the others give two rows each, split by month."""
    done = job().run(f"--source={SAMPLE}", f"--output={tmp_path}/dataset", "--run_id=r1")
    assert done.exit_code == 0, done.lines
    manifest = manifest_of(tmp_path / "dataset")
    assert manifest["input_rows"] == 20_000
    assert manifest["rejects"]["by_reason"] == {"gestation_weeks is missing": 6, "weight_pounds is missing": 17}
    assert (manifest["train"]["rows"], manifest["eval"]["rows"]) == (22_800, 17_154)
    assert manifest["run_id"] == "r1"
    read = sum(pq.read_metadata(tmp_path / "dataset" / name).num_rows for name in manifest["train"]["files"])
    assert read == 22_800
    assert (done.last["action"], done.last["run_id"], done.last["train_rows"]) == ("preprocess-finished", "r1", 22_800)


@pytest.mark.slow
def test_a_csv_with_broken_rows(job: Callable[..., Job], tmp_path: Path) -> None:
    """A file with 5 % broken rows gives a dataset of the others, and each broken row is counted with its line."""
    seed = 2026
    print(f"seed {seed}")
    generator = random.Random(seed)
    faults = [
        "2022,6,7.5,true,30",
        "2022,6,heavy,true,30,1,40",
        "2022,6,7.5,true,30,9,40",
        "",
        '2022,6,"7.5',
        "\x00\x01",
    ]
    lines = ["2022,6,7.5,true,30,1,40"] * 950 + [generator.choice(faults) for _ in range(50)]
    generator.shuffle(lines)
    (tmp_path / "births.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    done = job().run(f"--source={tmp_path}/births.csv", f"--output={tmp_path}/dataset")
    assert done.exit_code == 0, done.lines
    manifest = manifest_of(tmp_path / "dataset")
    assert manifest["input_rows"] == 1000
    assert manifest["rejects"]["total"] == 50
    assert manifest["train"]["rows"] + manifest["eval"]["rows"] == 2 * 950
    (name,) = manifest["rejects"]["files"]
    rejected = [json.loads(line) for line in (tmp_path / "dataset" / name).read_text().splitlines()]
    assert [line["line"] - 2 for line in rejected] == [row for row, line in enumerate(lines) if line in faults]


@pytest.mark.slow
def test_killed_in_the_middle_and_run_again(job: Callable[..., Job], tmp_path: Path) -> None:
    """kill -9 while files are written: no manifest; the next run ends in the dataset that an undisturbed run gives."""
    (tmp_path / "births").mkdir()
    for number in range(40):
        (tmp_path / "births" / f"{number:02d}.csv").symlink_to(SAMPLE)
    source, output = f"--source={tmp_path}/births", tmp_path / "dataset"
    process = job().start(source, f"--output={output}")
    wait_until(lambda: list(output.glob("_tmp/*/train-*")), 60, "a first file of the job")
    assert loopback_only.non_loopback_sockets(process.pid) == []
    process.kill()
    process.communicate()
    assert not (output / "manifest.json").exists()
    assert job().run(source, f"--output={output}").exit_code == 0
    assert job().run(source, f"--output={tmp_path}/undisturbed").exit_code == 0
    assert manifest_of(output) == manifest_of(tmp_path / "undisturbed")
    assert manifest_of(output)["input_rows"] == 40 * 20_000
    assert not (output / "_tmp").exists()


@pytest.mark.parametrize(
    ("content", "flags", "kind", "message"),
    [
        (None, [], "SourceNotFound", "births.csv' does not exist; check the name"),
        (HEADER + "\n", [], "EmptySource", "has no row in its 1 file(s); upload data"),
        ("a,b\n1,2\n", [], "MissingColumns", "lacks the column(s) year, month"),
        (
            HEADER + "\n1999,6,7.5,true,30,1,40\n",
            [],
            "NoGoodRows",
            "all 1 rows were rejected (year is out of range: 1)",
        ),
        (HEADER + "\n", ["--limit=none"], "BadFlag", "--limit=none is no whole number"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isalpha() else "",
)
def test_what_cannot_work_ends_with_what_to_mend(
    job: Callable[..., Job], tmp_path: Path, content: str | None, flags: list[str], kind: str, message: str
) -> None:
    """No source, no row, no column, no good row, no sense: refused for good, and the last line says what to do."""
    if content is not None:
        (tmp_path / "births.csv").write_text(content)
    done = job().run(f"--source={tmp_path}/births.csv", f"--output={tmp_path}/dataset", *flags)
    assert done.exit_code == EXIT_REFUSED
    assert done.last["error"] == kind
    assert message in done.last["message"]
    left = sorted(path.name for path in (tmp_path / "dataset").glob("*"))
    assert left == (["rejects-00000-of-00001.jsonl"] if kind == "NoGoodRows" else [])
