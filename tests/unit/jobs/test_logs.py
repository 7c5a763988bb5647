"""Log files: when a line was written, and reading a range of them."""

from pathlib import Path

import pytest

from localcloud.jobs.logs import MAX_ENTRY_BYTES, LogFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.log"


def append(path: Path, text: str, at_us: int) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)
    LogFile(path).mark(at_us)


def test_a_line_is_as_old_as_the_first_mark_past_it(path: Path) -> None:
    """Plain lines take the time of the mark that first saw them."""
    append(path, "one\ntwo\n", 100)
    LogFile(path).mark(150)
    append(path, "three\n", 200)
    assert [(line.us, line.text) for line in LogFile(path).lines()] == [(100, "one"), (100, "two"), (200, "three")]


def test_own_times_stay_within_the_marks(path: Path) -> None:
    """A JSON line keeps its own time if that can be, and time never runs backwards."""
    append(path, "start\n", 1_000_000)
    lines = [
        '{"time": "1970-01-01T00:00:01.500000Z", "message": "own"}',
        '{"time": "1970-01-01T00:00:01.200000Z", "message": "earlier than the one before"}',
        '{"time": "2030-01-01T00:00:00Z", "message": "from the future"}',
    ]
    append(path, "\n".join(lines) + "\n", 2_000_000)
    assert [line.us for line in LogFile(path).lines()] == [1_000_000, 1_500_000, 1_500_000, 2_000_000]


def test_a_range_of_time_reads_only_that(path: Path) -> None:
    """Lines are found by time, in both directions."""
    for number in range(1, 6):
        append(path, f"line {number}\n", number * 10)
    found = [line.text for line in LogFile(path).lines(from_us=20, to_us=40)]
    assert found == ["line 2", "line 3", "line 4"]
    assert [line.text for line in LogFile(path).lines(from_us=20, to_us=40, newest_first=True)] == found[::-1]


def test_a_line_still_being_written_is_left_for_later(path: Path) -> None:
    """A last line without its newline appears when it is whole, or when its writer has ended."""
    append(path, "whole\npart", 10)
    assert [line.text for line in LogFile(path).lines()] == ["whole"]
    assert [line.text for line in LogFile(path).lines(is_complete=True)] == ["whole", "part"]
    append(path, "ial\n", 20)
    assert [line.text for line in LogFile(path).lines()] == ["whole", "partial"]


def test_every_line_once_however_the_marks_fall(path: Path) -> None:
    """A mark in the middle of a line neither loses nor doubles it."""
    text = "".join(f"line number {number}\n" for number in range(50))
    for at in range(0, len(text), 7):
        append(path, text[at : at + 7], at + 1)
    assert [line.text for line in LogFile(path).lines()] == text.splitlines()
    assert [line.text for line in LogFile(path).lines(newest_first=True)] == text.splitlines()[::-1]


def test_marks_are_close_enough_to_page(path: Path) -> None:
    """However much was written between two looks, marks are at most a megabyte apart; long lines are cut."""
    append(path, ("y" * 99 + "\n") * 50_000 + "z" * 3_000_000 + "\nlast\n", 10)
    marks = [int(line.split()[1]) for line in path.with_name("a.log.marks").read_text().splitlines()]
    assert max(b - a for a, b in zip([0, *marks], marks, strict=False)) <= 1 << 20
    lines = [line.text for line in LogFile(path).lines()]
    assert len(lines) == 50_002
    assert len(lines[-2]) == MAX_ENTRY_BYTES
    assert lines[-1] == "last"


def test_a_mark_cut_off_by_a_crash_does_not_count(path: Path) -> None:
    """Half a mark at the end of the file is ignored, also when whole ones follow it."""
    append(path, "one\n", 10)
    with path.with_name("a.log.marks").open("a") as file:
        file.write("20 9")
    assert [line.text for line in LogFile(path).lines()] == ["one"]
    append(path, "two\n", 30)
    append(path, "three\n", 25)  # a clock set back does not turn time around
    assert [(line.us, line.text) for line in LogFile(path).lines()] == [(10, "one"), (30, "two"), (30, "three")]


@pytest.mark.parametrize(
    ("line", "severity"),
    [
        ('{"severity": "NOTICE"}', "NOTICE"),
        ('{"level": "warn"}', "WARNING"),
        ('{"levelname": "CRITICAL"}', "CRITICAL"),
        ('{"level": 30}', "DEFAULT"),
        ("ERROR:root:bad", "ERROR"),
        ("[INFO] fine", "INFO"),
        ("ERRORS were seen", "DEFAULT"),
        ("{not json", "DEFAULT"),
    ],
)
def test_severity(path: Path, line: str, severity: str) -> None:
    """A line's severity is what it says of itself."""
    append(path, line + "\n", 10)
    (found,) = LogFile(path).lines()
    assert found.severity == severity


def test_nothing_written_is_no_lines(path: Path) -> None:
    """A log that does not exist yet has no lines, and marking it is no error."""
    LogFile(path).mark(10)
    assert list(LogFile(path).lines()) == []
