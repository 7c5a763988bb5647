"""A line does what a deque does, for less memory while it is short."""

import sys
from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud.pubsub.line import Line

STEPS = st.lists(st.sampled_from(["append", "append_first", "take_first", "take_last", "remove"]), max_size=400)


@given(STEPS, st.integers(0, 300))
def test_a_line_is_a_deque(steps: list[str], begin: int) -> None:
    """Over any sequence of steps, from any length."""
    line: Line[int] = Line()
    model: deque[int] = deque()
    for number in range(begin):
        line.append(number)
        model.append(number)
    for number, step in enumerate(steps, 1000):
        if step == "append":
            line.append(number)
            model.append(number)
        elif step == "append_first":
            line.append_first(number)
            model.appendleft(number)
        elif model and step == "take_first":
            assert line.take_first() == model.popleft()
        elif model and step == "take_last":
            assert line.take_last() == model.pop()
        elif model and step == "remove":
            item = model[len(model) // 2]
            line.remove(item)
            model.remove(item)
        assert len(line) == len(model)
        assert bool(line) == bool(model)
        if model:
            assert line.first == model[0]
    assert [line.take_first() for _ in range(len(line))] == list(model)


@pytest.mark.parametrize(
    "take", [lambda line: line.take_first(), lambda line: line.take_last(), lambda line: line.first]
)
def test_nothing_can_be_taken_from_an_empty_line(take: Any) -> None:
    """Also when it was long before."""
    line: Line[int] = Line()
    for number in range(10):
        line.append(number)
    for _ in range(10):
        line.take_first()
    with pytest.raises(IndexError):
        take(line)


def test_a_short_line_is_small() -> None:
    """A quarter of what an empty deque takes."""
    line: Line[int] = Line()
    line.append(1)
    assert 4 * (sys.getsizeof(line) + sys.getsizeof(line._items)) < sys.getsizeof(deque()) + 1
