"""Errors that cross a runner as text are recognised at the other end."""

import pytest

from beam.errors import NoGoodRows, PreprocessError, from_runner


@pytest.mark.parametrize(
    "error",
    [
        NoGoodRows("all 3 rows were rejected; mend the source"),
        NoGoodRows("all 3 rows were rejected; mend the source [while running 'Publish dataset']"),
        RuntimeError("NoGoodRows: all 3 rows were rejected; mend the source [while running 'Publish dataset']"),
        RuntimeError(
            "Traceback (most recent call last):\n  File x\nbeam.errors.NoGoodRows: all 3 rows were rejected; mend the "
            "source [while running 'Publish dataset-ptransform-12']\n\nDuring handling of the above exception:\n"
        ),
    ],
)
def test_our_message_is_found_again(error: Exception) -> None:
    """Whatever a runner wraps around it, the sentence is ours, and its class."""
    found = from_runner(error)
    assert isinstance(found, NoGoodRows)
    assert str(found) == "all 3 rows were rejected; mend the source"


@pytest.mark.parametrize("error", [RuntimeError("ValueError: x"), ValueError(""), KeyError("NoGoodRows")])
def test_other_errors_are_left_alone(error: Exception) -> None:
    """An error that is not ours is not made to look like one."""
    assert from_runner(error) is None


def test_one_tree() -> None:
    """Whoever catches PreprocessError catches every one of them."""
    assert issubclass(NoGoodRows, PreprocessError)
