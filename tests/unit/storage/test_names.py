"""Names: what is allowed, and their order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud.rest import ApiError
from localcloud.storage.names import after_prefix, check_bucket_name, check_object_name

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@given(names, names)
def test_after_prefix_is_behind_every_name_with_the_prefix(prefix: str, rest: str) -> None:
    """Every name that begins with the prefix sorts before it, by bytes."""
    behind = after_prefix(prefix)
    if behind is not None:
        assert (prefix + rest).encode() < behind.encode()


@given(names, names)
def test_after_prefix_is_the_first_such_name(prefix: str, other: str) -> None:
    """A name at or behind the prefix that does not begin with it is at or behind `after_prefix` too."""
    behind = after_prefix(prefix)
    if other.encode() > prefix.encode() and not other.startswith(prefix):
        assert behind is not None
        assert other.encode() >= behind.encode()


@pytest.mark.parametrize("prefix", ["", "\U0010ffff", "\U0010ffff\U0010ffff"])
def test_nothing_is_behind_the_last_names(prefix: str) -> None:
    """Where no name is behind all with the prefix, None says so."""
    assert after_prefix(prefix) is None


def test_after_prefix_leaps_over_the_surrogates() -> None:
    """The successor is always a character that can be encoded."""
    assert after_prefix("a\ud7ff") == "a\ue000"


@pytest.mark.parametrize("name", ["abc", "a-b_c.d", "0" * 63, "a" * 63 + "." + "b" * 63, "baton-local-raw"])
def test_good_bucket_names(name: str) -> None:
    """What Cloud Storage allows is allowed."""
    check_bucket_name(name)


@pytest.mark.parametrize("name", ["a", "x" * 1024, "é" * 512, "...", " ", "a/../b"])
def test_good_object_names(name: str) -> None:
    """What Cloud Storage allows is allowed, dots and slashes included: no name becomes a path."""
    check_object_name(name)


@pytest.mark.parametrize("name", ["", ".", "..", "x" * 1025, "é" * 513, "a\r", "a\n", "a\0", "\ud800"])
def test_bad_object_names(name: str) -> None:
    """What Cloud Storage forbids is refused with 400."""
    with pytest.raises(ApiError) as refused:
        check_object_name(name)
    assert refused.value.code == 400
