import os
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.files import atomic_write, read_csv, write_csv


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """If the block raises, the old file is unchanged, and there is no other file in its folder."""
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write() -> None:
        with atomic_write(path) as part:
            part.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]  # noqa: PTH208


def test_a_folder_replaces_a_folder(tmp_path: Path) -> None:
    """A new folder replaces the old one, and no old file remains."""
    path = tmp_path / "raw"
    path.mkdir()
    (path / "old").touch()
    with atomic_write(path) as part:
        part.mkdir()
        (part / "new").touch()
    assert [file.name for file in path.iterdir()] == ["new"]


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_link_is_replaced_and_its_target_unchanged(tmp_path: Path, link: object) -> None:
    """If the path is a link into a cache, a new file replaces it, and the file in the cache is unchanged."""
    cached, path = tmp_path / "cached", tmp_path / "a.txt"
    cached.write_text("cached")
    assert callable(link)
    link(cached, path)
    with atomic_write(path) as part:
        part.write_text("new")
    assert (cached.read_text(), path.read_text()) == ("cached", "new")


def test_csv_files_can_contain_any_text(tmp_path: Path) -> None:
    """Commas, quotes, line breaks and characters of any script are read as they were written."""
    rows = [{"clip": 'a,"b"\nc/ü 漢.wav', "split": "train"}]
    write_csv(tmp_path / "t.csv", ["clip", "split"], (row.values() for row in rows))
    assert read_csv(tmp_path / "t.csv") == rows


def test_a_missing_table_is_an_error_that_says_what_to_run(tmp_path: Path) -> None:
    """If the file does not exist, the message names it and the command that writes it."""
    with pytest.raises(PipelineError, match=r"t\.csv is missing: run dvc repro"):
        read_csv(tmp_path / "t.csv")
