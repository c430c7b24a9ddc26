"""Tables and JSON files: what is written is read, and whatever else is there is one message."""

import json
import os
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NamedTuple

import pytest
from pydantic import Field

from pipeline.errors import PipelineError
from pipeline.records import Count, Name, Number, Record, TableFile, read_bytes, read_json, write_json
from tests.damage import damaged, fuzz


class Row(NamedTuple):
    """A row with a column of each kind."""

    clip: Name
    split: Annotated[str, Field(pattern="^(train|test)$")]
    clips: Count
    loss: Number
    noise: bool


class Scores(Record):
    """An object in a JSON file."""

    accuracy: Annotated[float, Field(ge=0, le=1)]
    epochs: list[int]
    reason: str | None = None


TABLE = TableFile(Row, key=("clip",), is_sorted=True)
ROWS = [
    Row("a/1.wav", "train", 3, 0.25, noise=False),
    Row("b/2.wav", "test", 0, 1e-6, noise=True),
    Row("c/3.wav", "train", 5, 2.0, noise=False),
]
TEXT = (
    "clip,split,clips,loss,noise\n"
    "a/1.wav,train,3,0.250000,0\n"
    "b/2.wav,test,0,0.000001,1\n"
    "c/3.wav,train,5,2.000000,0\n"
)


def test_a_table_has_these_bytes_and_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Floats have six decimals, true is 1, and lines end with a line feed on every system."""
    TABLE.write(tmp_path / "t.csv", ROWS)
    assert (tmp_path / "t.csv").read_bytes() == TEXT.encode()
    assert TABLE.read(tmp_path / "t.csv") == ROWS


def test_tables_can_contain_any_text(tmp_path: Path) -> None:
    """Commas, quotes, line breaks of each kind and characters of any script are read as they were written."""
    names = ['a,"b"\nc/ü 漢.wav', "carriage\rreturn", "both\r\n", " blanks ", "'", "\ttab"]
    rows = [ROWS[0]._replace(clip=name) for name in sorted(names)]
    TABLE.write(tmp_path / "t.csv", rows)
    assert TABLE.read(tmp_path / "t.csv") == rows


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "t.csv is empty"),
        ("\n", "must have the columns clip,split,clips,loss,noise, has none"),
        (TEXT[:28], "t.csv has no rows, expected one or more"),
        ("\ufeff" + TEXT, "begins with a byte order mark, as spreadsheets do"),
        (TEXT.encode("utf-16"), "must be text in UTF-8, is not at byte 0"),
        (TEXT.replace("a/", "ä/").encode("latin-1"), "must be text in UTF-8, is not at byte 28"),
        (TEXT.replace(",", ";"), r"has clip;split;clips;loss;noise \(separated by semicolons, as spread"),
        (TEXT.replace(",", "\t"), r"\(separated by tabs, as spreadsheets do\)"),
        (
            TEXT.replace(",noise", ""),
            "must have the columns .*, has clip,split,clips,loss: run dvc checkout --force",
        ),
        (
            TEXT.replace("loss,noise", "noise,loss"),
            "must have the columns .*, has clip,split,clips,noise,loss",
        ),
        (TEXT.replace(",1\n", ",1,x\n"), "t.csv, line 3, has 6 columns, expected 5"),
        (TEXT.replace(",1\n", "\n"), "t.csv, line 3, has 4 columns, expected 5"),
        (TEXT.replace("b/", "\nb/"), "t.csv, line 3, has 0 columns, expected 5"),
        (TEXT[:-1], "t.csv is cut short: its last line, 4, has no end"),
        (TEXT[:-5], "t.csv is cut short"),
        (TEXT.replace("b/2", '"b/2'), "t.csv is damaged at line 4: unexpected end of data"),
        (TEXT.replace(",3,", ",3.5,"), "line 2, column clips: expected a valid integer, found '3.5'"),
        (
            TEXT.replace(",3,", ",-3,"),
            "line 2, column clips: expected greater than or equal to 0, found '-3'",
        ),
        (TEXT.replace(",3,", ",,"), "line 2, column clips: expected a valid integer, found ''"),
        (TEXT.replace("test", "tset"), r"line 3, column split: expected to match pattern .*, found 'tset'"),
        (TEXT.replace("2.000000", "nan"), "line 4, column loss: expected a finite number, found 'nan'"),
        (TEXT.replace("2.000000", "inf"), "line 4, column loss: expected a finite number, found 'inf'"),
        (TEXT.replace("2.000000,0", "2.0,2"), "line 4, column noise: expected a valid boolean, found '2'"),
        (TEXT.replace("b/2.wav", ""), "line 3, column clip: expected to have at least 1 character, found ''"),
        (TEXT.replace("b/2", "a/1"), "line 3: clip a/1.wav is there twice"),
        (TEXT.replace("b/2", "d/2"), "line 4: c/3.wav comes after d/2.wav, expected rows sorted by clip"),
    ],
)
def test_a_damaged_table_is_one_message(tmp_path: Path, content: str | bytes, message: str) -> None:
    """The message has the file, the line, the column, what was found and expected, and what to do."""
    path = tmp_path / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(PipelineError, match=message) as error:
        TABLE.read(path)
    assert str(error.value).startswith(str(path))
    assert f"run dvc checkout --force {path}, or dvc repro" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_table_that_a_spreadsheet_saved_with_its_line_ends_is_read(tmp_path: Path) -> None:
    """Lines may end as they do on Windows."""
    (tmp_path / "t.csv").write_bytes(TEXT.replace("\n", "\r\n").encode())
    assert TABLE.read(tmp_path / "t.csv") == ROWS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "s.json is empty"),
        (b"{", "s.json is not JSON"),
        (b"[" * 100_000, "s.json is not JSON"),
        (b"\xff", "must be text in UTF-8, is not at byte 0"),
        (b"[]", r"s.json: expected a valid dictionary.*, found \[\]"),
        (b"{}", "s.json: accuracy is missing"),
        (b'{"accuracy": NaN, "epochs": []}', "s.json must have finite numbers, has NaN"),
        (
            b'{"accuracy": 1e999, "epochs": []}',
            "s.json: accuracy: expected a finite number, found inf",
        ),
        (b'{"accuracy": "1", "epochs": []}', "s.json: accuracy: expected a valid number, found '1'"),
        (b'{"accuracy": null, "epochs": []}', "s.json: accuracy: expected a valid number, found None"),
        (b'{"accuracy": 1, "epochs": [1, "x"]}', "s.json: epochs.1: expected a valid integer, found 'x'"),
    ],
)
def test_damaged_json_is_one_message(tmp_path: Path, content: bytes, message: str) -> None:
    """The message has the file, the place in it, what was found and expected, and what to do."""
    path = tmp_path / "s.json"
    path.write_bytes(content)
    with pytest.raises(PipelineError, match=message) as error:
        read_json(path, Scores)
    assert "\n" not in str(error.value)
    with pytest.raises(PipelineError, match=r": delete it$"):
        read_json(path, Scores, remedy="delete it")


def test_json_is_read_as_it_was_written(tmp_path: Path) -> None:
    """More keys do no harm."""
    write_json(tmp_path / "s.json", {"accuracy": 1, "epochs": [1, 2], "more": "ü"})
    assert read_json(tmp_path / "s.json", Scores) == Scores(accuracy=1.0, epochs=[1, 2])


def test_a_missing_file_is_an_error_that_says_what_to_run(tmp_path: Path) -> None:
    """If the file does not exist, the message names it and the command that writes it."""
    with pytest.raises(PipelineError, match=r"t\.csv is missing: run dvc repro, or dvc pull"):
        TABLE.read(tmp_path / "t.csv")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    """A FIFO would hang. A folder and a device are refused too."""
    os.mkfifo(tmp_path / "fifo")
    for path, kind in (
        (tmp_path / "fifo", "a FIFO"),
        (tmp_path, "a folder"),
        (Path("/dev/zero"), "a device"),
    ):
        with pytest.raises(PipelineError, match=f"must be a file, is {kind}: remove it"):
            read_bytes(path)


@fuzz(300)
def test_a_table_damaged_at_random_is_refused_or_a_table(tmp_path: Path, generator: random.Random) -> None:
    """A damaged table is one message, or gives rows that are written as such a table.

    None has a NaN, an empty id, a split that does not exist, or an id twice.
    """
    path = tmp_path / "t.csv"
    path.write_bytes(damaged(TEXT.encode(), generator))
    with _one_message(path):
        rows = TABLE.read(path)
        TABLE.write(path, rows)
        again = TABLE.read(path)
        assert [row._replace(loss=0) for row in again] == [row._replace(loss=0) for row in rows]
        assert {row.split for row in rows} <= {"train", "test"}
        assert len({row.clip for row in rows} - {""}) == len(rows)
        assert all(abs(row.loss) < float("inf") for row in rows)


@fuzz(200)
def test_json_damaged_at_random_is_refused_or_of_its_type(tmp_path: Path, generator: random.Random) -> None:
    """A damaged JSON file is one message, or has values of the declared types in their bounds."""
    path = tmp_path / "s.json"
    content = json.dumps({"accuracy": 0.5, "epochs": [1, 2], "reason": "none"}).encode()
    path.write_bytes(damaged(content, generator))
    with _one_message(path):
        assert 0 <= read_json(path, Scores).accuracy <= 1


@contextmanager
def _one_message(path: Path) -> Iterator[None]:
    """Allow a PipelineError of one line that begins with `path`."""
    try:
        yield
    except PipelineError as error:
        assert re.fullmatch(rf"{re.escape(str(path))}[^\n]+", str(error))  # noqa: PT017
