"""Write and read tables and JSON files whose content has a declared type, and check it when it is read.

A file may have been edited by hand, cut short, or made by somebody else. So every value that is read has its
type and is within its bounds, or the message names the file, the place, the value and the expected values.
"""

import csv
import io
import json
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import GenericAlias
from typing import IO, Annotated, Any, Generic, NamedTuple, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from pipeline.errors import PipelineError
from pipeline.files import atomic_write

T = TypeVar("T")
Row = TypeVar("Row", bound=NamedTuple)

# Types of columns and of values in JSON.
Name = Annotated[str, Field(min_length=1)]
Md5 = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]

BYTE_ORDER_MARK = "\ufeff"
KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
# How much of a wrong value or header a message shows.
SHOWN = 60


def again(path: Path | str) -> str:
    """Return what to do if the file at `path`, an output of the pipeline, is missing or damaged."""
    return f"run dvc checkout --force {path}, or dvc repro, to get it back"


def not_a_file(path: Path) -> str | None:
    """Return what is at `path` if it is not a file, such as `a FIFO`. Raises PipelineError if nothing is."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing: run dvc repro, or dvc pull if you have a remote") from None
    return next((name for test, name in KINDS if test(mode)), None)


def check_file(path: Path) -> None:
    """Raise PipelineError if there is no file at `path`. To open a FIFO, for example, would wait for ever."""
    kind = not_a_file(path)
    if kind:
        raise PipelineError(f"{path} must be a file, is {kind}: remove it, and {again(path)}")


def read_bytes(path: Path) -> bytes:
    """Return the content of the file at `path`. Raises PipelineError if it is missing or not a file."""
    check_file(path)
    return path.read_bytes()


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, without a full stop at its end."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].strip().rstrip(".:")


# ----------------------------------------------------------------------------------------------- tables


@dataclass(frozen=True)
class TableFile(Generic[Row]):
    """A kind of table: a CSV file whose columns are the fields of `row`.

    Attributes:
        row: a NamedTuple. The types of its fields say what a cell may be.
        key: columns whose values together differ in all rows.
        is_sorted: whether the rows are sorted by `key`.
        may_be_empty: whether there may be no rows.
        delimiter: between columns.
        remedy: what to do with a damaged file, in place of `again`.
    """

    row: type[Row]
    key: tuple[str, ...] = ()
    is_sorted: bool = False
    may_be_empty: bool = False
    delimiter: str = ","
    remedy: str | None = None

    @property
    def header(self) -> list[str]:
        """The names of the columns."""
        return list(self.row._fields)

    @cached_property
    def _columns(self) -> list[TypeAdapter[Any]]:
        types = get_type_hints(self.row, include_extras=True)
        columns: list[Any] = [GenericAlias(list, types[name]) for name in self.header]
        return [TypeAdapter(column) for column in columns]

    def write(self, path: Path, rows: Iterable[Row]) -> None:
        """Write `rows` in UTF-8, with a line feed after each row on every system. Floats get 6 decimals."""
        with atomic_write(path) as part, part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(_LineFeeds(file), delimiter=self.delimiter)
            writer.writerow(self.header)
            writer.writerows(map(_cells, rows))

    def read(self, path: Path) -> list[Row]:
        """Return the rows of the table at `path`.

        Raises:
            PipelineError: the file is missing, is not such a table, or is cut short; or a cell has a value
                that its column cannot have; or two rows have the same key. The message says where.
        """
        return self.parse(read_bytes(path), path)

    def parse(self, content: bytes, path: Path | str, *, remedy: str | None = None) -> list[Row]:
        """Return the rows of the table whose bytes are `content`. Messages call it `path`."""
        try:
            return self._parsed(content)
        except _WrongError as error:
            raise PipelineError(f"{path}{error}: {remedy or self.remedy or again(path)}") from None

    def _parsed(self, content: bytes) -> list[Row]:
        lines, cells = self._split(_text(content))
        columns = []
        for name, adapter, column in zip(self.header, self._columns, zip(*cells, strict=True), strict=False):
            try:
                columns.append(adapter.validate_python(column))
            except ValidationError as error:
                details = error.errors()[0]
                line = lines[int(details["loc"][0])]
                raise _WrongError(f", line {line}, column {name}: {_problem(details)}") from None
        rows = [self.row._make(values) for values in zip(*columns, strict=True)]
        self._check_keys(lines, rows)
        return rows

    def _split(self, text: str) -> tuple[list[int], list[list[str]]]:
        """Return the number of the line on which each row ends, and the cells of each row."""
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=self.delimiter, strict=True)
        try:
            header = next(reader, [])
            self._check_header(header)
            rows = [(reader.line_num, row) for row in reader]
        except csv.Error as error:
            raise _WrongError(f" is damaged at line {reader.line_num}: {error}") from None
        if not text.endswith("\n"):
            raise _WrongError(f" is cut short: its last line, {reader.line_num}, has no end")
        for line, row in rows:
            if len(row) != len(header):
                raise _WrongError(f", line {line}, has {len(row)} columns, expected {len(header)}")
        if not rows and not self.may_be_empty:
            raise _WrongError(" has no rows, expected one or more")
        return [line for line, _ in rows], [row for _, row in rows]

    def _check_header(self, header: list[str]) -> None:
        if header == self.header:
            return
        found, expected = self.delimiter.join(header), self.delimiter.join(self.header)
        hint = ""
        if len(header) == 1 and len(self.header) > 1:
            others = [name for mark, name in ((";", "semicolons"), ("\t", "tabs")) if mark in found]
            hint = f" (separated by {others[0]}, as spreadsheets do)" if others else ""
        raise _WrongError(f" must have the columns {expected}, has {_short(found) or 'none'}{hint}")

    def _check_keys(self, lines: list[int], rows: list[Row]) -> None:
        indices = [self.header.index(name) for name in self.key]
        names = " and ".join(self.key)
        keys = [tuple(row[index] for index in indices) for row in rows] if indices else []
        seen: set[tuple[Any, ...]] = set()
        last: tuple[Any, ...] = ()
        for line, key in zip(lines, keys, strict=False):
            if key in seen:
                raise _WrongError(f", line {line}: {names} {_named(key)} is there twice, expected it once")
            if self.is_sorted and key < last:
                problem = f"{_named(key)} comes after {_named(last)}"
                raise _WrongError(f", line {line}: {problem}, expected rows sorted by {names}")
            seen.add(key)
            last = key


@dataclass(frozen=True)
class _LineFeeds:
    """Ends rows with a line feed. csv itself would then not quote a carriage return, which ends a row too."""

    file: IO[str]

    def write(self, row: str) -> None:
        self.file.write(row.removesuffix("\r\n") + "\n")


class _WrongError(Exception):
    """A problem with a file. Its text continues the file's name."""


def _cells(row: Iterable[object]) -> list[object]:
    return [
        f"{cell:.6f}" if isinstance(cell, float) else int(cell) if isinstance(cell, bool) else cell
        for cell in row
    ]


def _text(content: bytes) -> str:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _WrongError(f" must be text in UTF-8, is not at byte {error.start}") from None
    if text.startswith(BYTE_ORDER_MARK):
        raise _WrongError(" must begin with its content, begins with a byte order mark, as spreadsheets do")
    if not text:
        raise _WrongError(" is empty")
    return text


def _named(key: tuple[Any, ...]) -> str:
    return _short(" ".join(map(str, key)))


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _problem(error: Any) -> str:
    """Return what pydantic found wrong with a value, and the value."""
    expected = error["msg"].replace("Input should be ", "").replace("String should ", "to ")
    for more in (", unable", ", got", " or instance of"):
        expected = expected.partition(more)[0]
    if error["type"] == "missing":
        return "is missing"
    return f"expected {expected}, found {_short(repr(error['input']))}"


# ------------------------------------------------------------------------------------------------- JSON


class Record(BaseModel):
    """An object in a JSON file. It may have more keys, which nobody reads."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, with a line feed at its end."""
    with atomic_write(path) as part:
        part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path, kind: type[T], *, remedy: str | None = None) -> T:
    """Return the content of the JSON file at `path` as a `kind`, such as a Record.

    `remedy` says what to do with a damaged file, in place of `again`. Raises PipelineError if the file is
    missing, is not JSON, or has no such content.
    """
    return parse_json(read_bytes(path), kind, path, remedy=remedy)


def parse_json(content: bytes, kind: type[T], path: Path | str, *, remedy: str | None = None) -> T:
    """Return the JSON in `content` as a `kind`. Messages call it `path`.

    Raises PipelineError as `read_json`.
    """
    try:
        value = json.loads(_text(content), parse_constant=_no_number)
    except _WrongError as error:
        problem = str(error)
    except (ValueError, RecursionError) as error:
        problem = f" is not JSON: {_short(error)}"
    else:
        return checked(value, kind, path, remedy=remedy)
    raise PipelineError(f"{path}{problem}: {remedy or again(path)}")


def checked(value: Any, kind: type[T], path: Path | str, *, remedy: str | None = None) -> T:
    """Return `value`, the content of a JSON file, as a `kind`, or raise PipelineError."""
    try:
        return TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError as error:
        details = error.errors()[0]
    place = ".".join(map(str, details["loc"]))
    separator = " " if details["type"] == "missing" else ": " if place else ""
    raise PipelineError(f"{path}: {place}{separator}{_problem(details)}: {remedy or again(path)}")


def _no_number(name: str) -> None:
    raise _WrongError(f" must have finite numbers, has {name}")
