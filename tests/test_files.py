import os
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.files import read_csv, replacing, write_csv


def test_what_fails_half_way_leaves_the_old_file_alone(tmp_path: Path) -> None:
    """Where the block raises, the old file stands as it was and nothing lies beside it."""
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write() -> None:
        with replacing(path) as part:
            part.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]  # noqa: PTH208


def test_a_folder_replaces_a_folder(tmp_path: Path) -> None:
    """A folder takes another's place whole: none of the old files remain."""
    path = tmp_path / "raw"
    path.mkdir()
    (path / "old").touch()
    with replacing(path) as part:
        part.mkdir()
        (part / "new").touch()
    assert [file.name for file in path.iterdir()] == ["new"]


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_link_is_replaced_not_written_through(tmp_path: Path, link: object) -> None:
    """A file linked into a cache gets a new file in its place, and the cache keeps its bytes."""
    cached, path = tmp_path / "cached", tmp_path / "a.txt"
    cached.write_text("cached")
    assert callable(link)
    link(cached, path)
    with replacing(path) as part:
        part.write_text("new")
    assert (cached.read_text(), path.read_text()) == ("cached", "new")


def test_any_text_survives_csv(tmp_path: Path) -> None:
    """Commas, quotes, line breaks and any script come back as they were written."""
    rows = [{"clip": 'a,"b"\nc/ü 漢.wav', "split": "train"}]
    write_csv(tmp_path / "t.csv", ["clip", "split"], (row.values() for row in rows))
    assert read_csv(tmp_path / "t.csv") == rows


def test_a_missing_table_is_an_error_that_says_what_to_run(tmp_path: Path) -> None:
    """Reading a table that no stage has written names it and the command."""
    with pytest.raises(PipelineError, match=r"t\.csv is missing: run dvc repro"):
        read_csv(tmp_path / "t.csv")
