"""A directory on a disk keeps the promises that a bucket keeps as well."""

from pathlib import Path

import pytest

from trainer.errors import StorageError
from trainer.storage import LocalDirectory, open_directory, write_tree


def test_what_was_written_is_read_listed_and_deleted(tmp_path: Path) -> None:
    """Names may contain slashes; the directory is made when needed."""
    directory = open_directory(str(tmp_path / "new" / "place"))
    assert directory.names("") == []
    directory.write("variables/index", b"1")
    directory.write("variables/index", b"2")
    assert directory.read("variables/index") == b"2"
    assert directory.names("vari") == ["variables/index"]
    directory.delete("variables/index")
    directory.delete("variables/index")
    with pytest.raises(FileNotFoundError):
        directory.read("variables/index")


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader sees the whole old file or the whole new one, and never a temporary one afterwards."""
    directory = LocalDirectory(tmp_path)
    directory.write("model", b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("trainer.storage.os.replace", fail)
        with pytest.raises(OSError, match="disk full"):
            directory.write("model", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert directory.read("model") == b"old"


def test_a_tree_keeps_its_names(tmp_path: Path) -> None:
    """Every file below the source arrives under its relative name."""
    source = tmp_path / "source"
    (source / "variables").mkdir(parents=True)
    (source / "saved_model.pb").write_bytes(b"a")
    (source / "variables" / "index").write_bytes(b"b")
    target = LocalDirectory(tmp_path / "target")
    assert write_tree(source, target) == ["saved_model.pb", "variables/index"] == target.names("")


@pytest.mark.parametrize("uri", ["s3://bucket/x", "gs://", "gs:///path"])
def test_an_address_that_cannot_be_used_is_refused(uri: str) -> None:
    """The message names the address and the mend."""
    with pytest.raises(StorageError, match=r"gs://"):
        open_directory(uri)
