"""Compare what work will need with what this machine has, before the work starts.

Nothing here is exact. A need is a lower estimate, so that only work is refused that cannot succeed.
"""

import shutil
from pathlib import Path

from pipeline.errors import PipelineError

UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def need_disk(path: Path, size: int, what: str, remedy: str | None = None) -> None:
    """Return if `size` bytes fit on the disk of `path`, which need not exist yet.

    Args:
        path: the file or folder to write.
        size: its bytes.
        what: the name of the work, such as `features.stft`. The message begins with it.
        remedy: what to do if the disk has less, if anything besides freeing space.

    Raises PipelineError with both numbers if the disk has less.
    """
    place = next(folder for folder in path.absolute().parents if folder.is_dir())
    free = shutil.disk_usage(place).free
    if size > free:
        raise PipelineError(
            f"{what} needs {_readable(size)} for {path}, but its disk has {_readable(free)} free:"
            f" {remedy + ', or ' if remedy else ''}free some space"
        )


def need_memory(size: int, what: str, remedy: str, *, held: int = 0) -> None:
    """Return if this machine has `size` bytes of memory, of which the work already holds `held`.

    The other arguments are those of `need_disk`. Raises PipelineError with both numbers if it has less.
    """
    import psutil

    free = psutil.virtual_memory().available + held
    if size > free:
        raise PipelineError(
            f"{what} needs {_readable(size)} of memory, but {_readable(free)} are free: {remedy}, or use a"
            " machine with more memory"
        )


def _readable(size: int) -> str:
    """Return a number of bytes as a person reads it, such as 93.1 GB."""
    power = next((power for power in range(len(UNITS)) if size < 1000 ** (power + 1)), len(UNITS) - 1)
    return f"{size / 1000**power:.1f} {UNITS[power]}" if power else f"{size} B"
