"""Files that are whole or absent, the comma-separated ones among them, and the folder that they are in."""

import csv
import glob
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import PipelineError


def project() -> Path:
    """Return the project's own folder, also from a copy of it.

    A queued experiment runs in a copy, below the project's `.dvc/tmp`, that is deleted in the end.
    """
    here = Path.cwd()
    return next((folder for folder in here.parents if here.is_relative_to(folder / ".dvc" / "tmp")), here)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write a file or a folder at, then move it into place.

    Where the block raises, what it wrote is deleted and `path` is as it was. A new file takes the old
    one's place, so a link into a cache is never written through. What a killed run left is deleted by the
    next, which has a name of its own: a process of the old one that still writes does not write to it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f"{glob.escape(path.name)}.*.part"):
        _delete(left)
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        if part.is_dir() or path.is_dir():  # only a file takes the place of what is there
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
    """Write `rows` under `header` as UTF-8, a line feed after each row on every system."""
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a file written by `write_csv`, each as a dict by column.

    Raises PipelineError where there is no such file.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing: run dvc repro, or dvc pull where it is shared") from None
