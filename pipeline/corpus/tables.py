"""Keep the tables and lists of an archive in data/tables.zip, so that reading one needs no clips."""

import shutil
import zipfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, TypeVar

from pipeline.errors import PipelineError
from pipeline.files import atomic_write

T = TypeVar("T")

# How many tables a message lists.
LISTED = 10


def write(path: Path, tables: Mapping[str, Callable[[], AbstractContextManager[IO[bytes]]]]) -> None:
    """Write a zip archive of `tables`, which open each file, by their paths below the archive's top folder.

    Files are opened in the order of `tables`. The same tables give the same bytes: there are no dates, and no
    compression, which depends on the library.
    """
    with atomic_write(path) as part, zipfile.ZipFile(part, "w") as archive:
        for name, open_table in tables.items():
            entry = zipfile.ZipInfo(name)
            entry.create_system = 3  # Unix, on every system
            with open_table() as source, archive.open(entry, "w", force_zip64=True) as file:
                shutil.copyfileobj(source, file)


def read(path: Path, name: str) -> bytes:
    """Return the content of the table `name` in the zip archive at `path`.

    Raises PipelineError if there is no such table, or if the archive is missing or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(find(name, {entry.filename: entry for entry in archive.infolist()}))
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing: run dvc repro extract") from None
    except zipfile.BadZipFile:
        raise PipelineError(f"{path} is damaged, or no zip archive: run dvc repro -f extract") from None


def find(name: str, tables: Mapping[str, T]) -> T:
    """Return the one of `tables` with this `name`. Raises PipelineError if there is none."""
    if name in tables:
        return tables[name]
    listed = ", ".join(sorted(tables)[:LISTED]) or "none"
    raise PipelineError(
        f"params.yaml: there is no {name!r} in the archive, which has these tables and lists: {listed}:"
        " correct clips.table.path or split.lists. Paths begin below the archive's top folder"
    )
