"""Images, traffic splits, names, and the expansion of variables."""

import collections
import sys
from pathlib import Path
from typing import Any

import pytest

from localcloud.jobs import names, traffic
from localcloud.jobs.custom_jobs import expand
from localcloud.jobs.images import Images, ImagesError, image_name
from localcloud.jobs.models import field_mask
from localcloud.jobs.objects import ObjectsError, split_uri
from localcloud.rest import ApiError


@pytest.mark.parametrize(
    "uri",
    [
        "baton-trainer",
        "baton-trainer:v1",
        "us-docker.pkg.dev/p/r/baton-trainer",
        "localhost:5000/baton-trainer:1@sha256:ab",
        "gcr.io/p/baton-trainer@sha256:ab",
    ],
)
def test_image_names(uri: str) -> None:
    """An image is known by the last part of its URI, without tag or digest."""
    assert image_name(uri) == "baton-trainer"


def test_the_committed_table_of_images() -> None:
    """deploy/images.toml is sound, and its commands run this interpreter in the repository."""
    root = Path(__file__).parents[3]
    images = Images.load(root / "deploy" / "images.toml")
    for name in ("baton-beam-babyweight", "baton-trainer", "baton-serving"):
        image = images.find(f"eu.gcr.io/p/{name}:v1")
        assert image is not None
        assert image.command[0] == sys.executable
        assert Path(image.directory) == root


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("images = 5", "images"),
        ("[images.a]\ncommand = 'echo'", r"\[images.a\].command"),
        ("[images.a]\ncommand = []", "not empty"),
        ("[images.a]\ncommand = ['x']\ncolour = 1", "colour"),
        ("[images.a]\ncommand = ['x']\nenv = {A = 1}", "env"),
        ("[images", "cannot read"),
    ],
)
def test_a_wrong_table_is_named(tmp_path: Path, text: str, fragment: str) -> None:
    """A table that cannot be used names the file, the entry and the mend."""
    path = tmp_path / "images.toml"
    path.write_text(text)
    with pytest.raises(ImagesError, match=fragment) as caught:
        Images.load(path)
    assert "images.toml" in str(caught.value)


def test_splits_are_exact() -> None:
    """Of any hundred requests each model gets its share, spread evenly, also after the split has changed."""
    splitter = traffic.Splitter()
    for split in ({"1": 90, "2": 10}, {"1": 50, "2": 25, "3": 25}, {"2": 100}):
        chosen = [splitter.choose("e", split) for _ in range(100)]
        assert collections.Counter(chosen) == split
    assert splitter.choose("e", {}) is None
    first = [splitter.choose("f", {"1": 90, "2": 10}) for _ in range(20)]
    assert "2" in first[:10]
    assert "2" in first[10:]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("$(A)/x", "1/x"), ("$$(A)", "$(A)"), ("$(MISSING)", "$(MISSING)"), ("$A $", "$A $"), ("$(A)$(B)", "12")],
)
def test_variables_are_expanded(text: str, expected: str) -> None:
    """$(NAME) is expanded as in a container spec; $$ escapes; an unknown name stays."""
    assert expand(text, {"A": "1", "B": "2"}) == expected


@pytest.mark.parametrize("labels", [{"run": "r1"}, {"straße": "größe"}, {"a": ""}, {"k" * 63: "v" * 63}])
def test_good_labels(labels: dict[str, str]) -> None:
    """Lower-case letters of any language, digits, _ and - are allowed."""
    names.check_labels(labels, "labels")


@pytest.mark.parametrize(
    "labels",
    [{"Run": "x"}, {"1a": "x"}, {"": "x"}, {"a": "X"}, {"a": "b c"}, {"k" * 64: ""}, {f"k{n}": "" for n in range(65)}],
)
def test_bad_labels(labels: dict[str, str]) -> None:
    """What the services refuse is refused, naming the label."""
    with pytest.raises(ApiError, match="label"):
        names.check_labels(labels, "labels")


def test_times_go_there_and_back() -> None:
    """Microseconds survive RFC 3339."""
    for us in (0, 1, 1_774_958_400_123_456):
        assert names.parse_timestamp(names.timestamp(us)) == us
    assert names.parse_timestamp("1970-01-01T01:00:00.0000019+01:00") == 1


def test_the_clock_never_repeats() -> None:
    """Two calls never give the same microsecond: create times order what was created."""
    clock = names.wall_clock()
    ticks = [clock() for _ in range(1000)]
    assert len(set(ticks)) == 1000
    assert ticks == sorted(ticks)


@pytest.mark.parametrize(("text", "expected"), [("traffic_split", ["trafficSplit"]), ("*", ["a", "trafficSplit"])])
def test_update_masks(text: str, expected: list[str]) -> None:
    """A mask is read in either spelling."""
    assert field_mask(text, ("a", "trafficSplit")) == expected


@pytest.mark.parametrize("text", ["", "name", "a,createTime"])
def test_wrong_update_masks(text: str) -> None:
    """A mask that is empty or names what cannot change is refused."""
    with pytest.raises(ApiError, match="update_mask"):
        field_mask(text, ("a",))


@pytest.mark.parametrize("uri", ["", "gs://", "gs:///x", "s3://b/x", "/local", "gs://../x", "gs://b ad/x"])
def test_wrong_uris(uri: str) -> None:
    """Only gs:// URIs with a real bucket name are asked for."""
    with pytest.raises(ObjectsError, match="Cloud Storage URI"):
        split_uri(uri)


@pytest.mark.parametrize(
    ("items", "fragment"),
    [
        ([{"name": "A=B", "value": ""}], "A=B"),
        ([{"name": "", "value": ""}], "no name"),
        ([{"name": "AIP_X", "value": ""}], "reserved"),
        ([{"name": f"A{n}", "value": ""} for n in range(101)], "too many"),
    ],
)
def test_wrong_variables(items: list[dict[str, Any]], fragment: str) -> None:
    """Variables that no process can have, or that are Vertex's own, are refused."""
    with pytest.raises(ApiError, match=fragment):
        names.check_env(items, "env", 100)
