"""Write files that are whole or absent, and read and write tables."""

import csv
import glob
import json
import secrets
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; at the end of the block, move what was written there to `path`.

    You may write a file or a folder. If the block raises, the temporary file is deleted and `path` is
    unchanged. `path` is replaced and never opened for writing, so a link into DVC's cache stays intact.
    The temporary files of a run that was killed are deleted by the next one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f"{glob.escape(path.name)}.*.part"):
        _delete(leftover)
    # The name is random because a process of the killed run may still be writing to the old one.
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        if part.is_dir() or path.is_dir():  # `replace` works only from file to file
            _delete(path)
        part.replace(path)
    except BaseException:
        _delete(part)
        raise


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_csv(path: Path, header: list[str], rows: Iterable[Iterable[object]]) -> None:
    """Write `rows` under `header`, in UTF-8, with a line feed after each row on every system."""
    with atomic_write(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def read_csv(path: Path, *, delimiter: str = ",") -> list[dict[str, str]]:
    """Return the rows of a CSV file, each as a dict by column. Raises PipelineError if it is missing."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file, delimiter=delimiter))
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing: run dvc repro, or dvc pull if you have a remote") from None


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, with a line feed at its end."""
    with atomic_write(path) as part:
        part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_zipped_json(path: Path, name: str) -> Any:
    """Return the content of the JSON file `name` in the zip archive at `path`.

    Raises zipfile.BadZipFile if it is not an archive, KeyError if it has no such file.
    """
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(name))
