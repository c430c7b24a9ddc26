"""Compare what a file needs with the space on its disk, and name the file that filled the disk after all."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import NO_ROOM, PipelineError


def require(path: Path, needed: int) -> None:
    """Raise PipelineError if the disk of `path`, which need not exist, has fewer than `needed` bytes free."""
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise PipelineError(
            f"{path} needs {needed:,} bytes, but only {free:,} bytes are free on its disk: free some space"
            " and run the command again"
        )


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give `path` to an OSError in the block that is about a full disk.

    Such errors name no file, or the one that was copied.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None
