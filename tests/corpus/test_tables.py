"""The tables and lists of an archive, in a file of their own."""

import io
from functools import partial
from pathlib import Path

import pytest

from pipeline.corpus import tables
from pipeline.errors import PipelineError


def test_equal_tables_give_equal_bytes(tmp_path: Path) -> None:
    """The time of writing does not change the file. Tables are read in their order, and there may be none."""
    contents = {"meta/b.csv": b"file,label", "a.txt": b"yes/a.wav"}
    opened = []

    def open_table(name: str) -> io.BytesIO:
        opened.append(name)
        return io.BytesIO(contents[name])

    for name in ("1.zip", "2.zip"):
        tables.write(tmp_path / name, {table: partial(open_table, table) for table in contents})
    assert opened == [*contents, *contents]  # reading a .tar.gz in another order starts again for each
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    assert tables.read(tmp_path / "1.zip", "meta/b.csv") == b"file,label"
    tables.write(tmp_path / "none.zip", {})
    with pytest.raises(PipelineError, match="these tables and lists: none"):
        tables.read(tmp_path / "none.zip", "a.txt")


def test_a_table_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """The message lists the tables that are there. Without the file of tables, it says what to run."""
    with pytest.raises(PipelineError, match=r"tables\.zip is missing: run dvc repro extract"):
        tables.read(tmp_path / "tables.zip", "val.txt")
    (tmp_path / "tables.zip").write_bytes(b"PK")
    with pytest.raises(
        PipelineError, match=r"tables\.zip is damaged, or no zip archive: run dvc repro -f extract"
    ):
        tables.read(tmp_path / "tables.zip", "val.txt")
    tables.write(tmp_path / "tables.zip", {"val.txt": io.BytesIO})
    with pytest.raises(PipelineError, match=r"no 'list\.txt' in the archive, .* lists: val\.txt: correct"):
        tables.read(tmp_path / "tables.zip", "list.txt")
