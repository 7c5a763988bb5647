"""The command line itself: help, refusals, exit codes. What needs a cloud is tested in tests/integration/baton."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from baton.__main__ import run
from baton.cli import COMMANDS, baton
from baton.cli.common import key_values
from baton.errors import EXIT_FAILED, EXIT_OK, EXIT_UNREACHABLE, EXIT_USAGE, Refused
from baton.telling import event_of
from messages import DataReady

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without a local cloud, and an environment without settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    return tmp_path


def all_commands() -> list[list[str]]:
    found = []
    context = click.Context(baton)
    for name in COMMANDS:
        command = baton.get_command(context, name)
        assert command is not None
        found.append([name])
        if isinstance(command, click.Group):
            found += [[name, sub] for sub in command.commands]
    return found


@pytest.mark.parametrize("words", all_commands(), ids=" ".join)
def test_every_help_ends_with_commands_one_can_paste(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """And says what the command does."""
    assert run([*words, "--help"]) == EXIT_OK
    text = capsys.readouterr().out
    assert re.search(r"examples:\n +(GOOGLE_CLOUD_PROJECT=\S+ BATON_BUCKET=\S+ )?baton ", text)
    assert text.startswith(f"Usage: baton {' '.join(words)}")


def test_help_is_there_at_once() -> None:
    """Google's client libraries are imported by the commands that use them, not by `baton --help`."""
    code = "import sys, baton.cli; from baton.__main__ import run; run(['--help']); print(*sys.modules, sep='\\n')"
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    took_s = time.monotonic() - began
    loaded = set(done.stdout.splitlines()) - {"google", "google.cloud"}  # empty namespaces, made at every start
    assert not {name for name in loaded if name.startswith(("google", "grpc", "pydantic", "structlog", "rich."))}
    assert "Start the local cloud and the workers" in done.stdout
    assert took_s < 3, "far above what it takes, far below what Google's clients would add on a busy machine"


def test_without_a_cloud_a_command_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr, with the exit code of wrong settings."""
    assert run(["runs"]) == EXIT_USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "no cloud is set" in captured.err
    assert "baton up" in captured.err


def test_a_silent_cloud_has_an_exit_code_of_its_own(
    nowhere: Path, unused_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script can tell "not up" from "failed"."""
    endpoints = nowhere / ".baton" / "cloud" / "endpoints.json"
    endpoints.parent.mkdir(parents=True)
    endpoints.write_text(json.dumps({"PUBSUB_EMULATOR_HOST": f"127.0.0.1:{unused_port}"}))
    assert run(["runs"]) == EXIT_UNREACHABLE
    assert f"PUBSUB_EMULATOR_HOST=127.0.0.1:{unused_port}" in capsys.readouterr().err


def test_an_address_that_is_none_is_a_wrong_setting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command ends with exit 2, `baton doctor` has it among its findings; neither with a traceback."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "localhost:abc")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "mine")
    assert run(["pubsub", "ls"]) == EXIT_USAGE
    assert "PUBSUB_EMULATOR_HOST=localhost:abc" in capsys.readouterr().err
    assert run(["doctor", "--json"]) == EXIT_FAILED
    problems = [finding["what"] for finding in json.loads(capsys.readouterr().out) if finding["verdict"] == "problem"]
    assert any("PUBSUB_EMULATOR_HOST=localhost:abc" in what for what in problems)


def test_wrong_use_is_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    """As click's own errors are."""
    assert run(["publish", "data-ready"]) == EXIT_USAGE
    assert "Missing option '--source'" in capsys.readouterr().err
    assert run(["no-such-command"]) == EXIT_USAGE


@pytest.mark.parametrize("source", ["births.csv", "./births.csv", "file:///births.csv"])
def test_a_path_of_this_machine_is_no_source(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The mend is the command that uploads it."""
    assert run(["publish", "data-ready", "--source", source]) == EXIT_USAGE
    assert f"baton upload {source}" in capsys.readouterr().err


def test_no_source_is_no_path(capsys: pytest.CaptureFixture[str]) -> None:
    """The mend is no command without its argument."""
    assert run(["publish", "data-ready", "--source", ""]) == EXIT_USAGE
    said = capsys.readouterr().err
    assert "gs://bucket/object" in said
    assert "upload" not in said


@pytest.mark.parametrize(
    "words", ["publish data-ready --source gs://b/x", "upload README.md", "retry r1", "replay r1"], ids=str.split
)
def test_a_limit_to_waiting_needs_waiting(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What has no effect is refused, in whatever order it is written; with --wait it is the cloud that is missing."""
    command = words.split()
    assert run([*command, "--timeout", "5"]) == 2
    assert "give --wait too" in capsys.readouterr().err
    run([*command, "--timeout", "5", "--wait"])
    assert "give --wait too" not in capsys.readouterr().err


def test_a_value_of_any_length_is_shown_shortly() -> None:
    """A refusal does not flood the terminal."""
    with pytest.raises(Refused) as told:
        event_of(DataReady, "babyweight", {"source": "gs://a/" + "x" * 100_000}, {})
    assert "data-ready.source = 'gs://a/xxx" in told.value.message
    assert len(told.value.message) < 200


def test_parameters_are_read_as_numbers_where_they_are_numbers() -> None:
    """Everything else is text."""
    given = key_values(("limit=1000", "learning_rate=1e-3", "model_name=m", "flag=true", "note=a=b"), "--param")
    assert given == {"limit": 1000, "learning_rate": 0.001, "model_name": "m", "flag": True, "note": "a=b"}


@pytest.mark.parametrize("text", ["limit", "=3"])
def test_a_parameter_without_a_name_or_value_is_refused(text: str) -> None:
    """The refusal shows what was given and how it should look."""
    with pytest.raises(Refused, match="limit=1000"):
        key_values((text,), "--param")


def test_pipelines_check_names_file_line_and_mend(nowhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 1 where a file is wrong; the good ones are told too."""
    folder = nowhere / "pipelines"
    folder.mkdir()
    (folder / "good.toml").write_text('name = "good"\n')
    (folder / "bad.toml").write_text('name = "bad"\n\n[train]\nimage = "i"\nattemps = 3\n')
    assert run(["pipelines", "check"]) == EXIT_FAILED
    out = capsys.readouterr().out
    assert "bad.toml:5: train.attemps = 3: this key is not known" in out
    assert "good.toml" in out
    assert run(["pipelines", "check", str(folder / "good.toml"), "--json"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out) == [{"file": str(folder / "good.toml"), "name": "good", "problem": ""}]


def test_this_repositorys_pipelines_are_right() -> None:
    """The files that ship are read as `baton pipelines check` reads them."""
    files = [str(path) for path in (ROOT / "pipelines").glob("*.toml")]
    assert files
    assert run(["pipelines", "check", *files]) == EXIT_OK


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no instance was given"),
        (["--instance", "{"], "--instance is not JSON"),
        (["--instance", "3"], "the instance 3 is no JSON object"),
        (["--file", "missing.json"], "missing.json cannot be read"),
    ],
)
def test_instances_are_checked_before_anything_is_asked(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The mend shows an instance."""
    assert run(["predict", *arguments]) == EXIT_USAGE
    assert message in " ".join(capsys.readouterr().err.split())


def test_doctor_without_a_cloud_finds_just_that(capsys: pytest.CaptureFixture[str]) -> None:
    """One cause, not twenty consequences; as JSON for machines."""
    assert run(["doctor", "--json"]) == EXIT_FAILED
    findings = json.loads(capsys.readouterr().out)
    problems = [finding for finding in findings if finding["verdict"] == "problem"]
    assert len(problems) == 1
    assert "no cloud is set" in problems[0]["what"]
    assert problems[0]["mend"]


def test_the_client_is_exported_lazily() -> None:
    """`from baton import Client` works; what is not there is refused as usual."""
    from baton import Client, client

    assert Client is client.Client
    with pytest.raises(AttributeError, match="no attribute 'Missing'"):
        __import__("baton").Missing  # noqa: B018 - reading it is the test
