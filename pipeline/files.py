"""Write files that are whole or absent."""

import errno
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import NO_ROOM, PipelineError

DATA = Path("data")
# The folder for unfinished files. DVC and git ignore it.
UNFINISHED = ".unfinished"
LOCK = ".lock"
# Why a folder cannot replace, or be replaced by, what is there.
OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR, errno.ENOTDIR)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path; at the end of the block, move what was written there to `path`.

    You may write a file or a folder. If the block raises, the temporary file is deleted and `path` is
    unchanged. `path` is replaced and never opened for writing, so a link into DVC's cache stays intact.

    The temporary path has the name of `path` and is in a folder of its own, so you may write other files
    beside it. That folder is in data/.unfinished. If `path` is outside the project or on another file system,
    it is in a folder .unfinished beside `path`. What a killed run left there is deleted by the next run.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _temporary_folder(_unfinished(path)) as folder:
        part = folder / path.name
        try:
            yield part
            _replace(part, path)
        except OSError as error:
            name = str(error.filename or "")
            if name.startswith(str(part)):
                error.filename = f"{path}{name.removeprefix(str(part))}"
            elif error.errno in NO_ROOM and not name:  # it is about an open file
                error.filename = str(path)
            raise


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give `path` to an OSError in the block that is about a full disk.

    Such errors name no file, or the one that was copied.
    """
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            error.filename = str(path)
        raise


def _unfinished(path: Path) -> Path:
    """Return the folder .unfinished for `path`, whose parent exists. They are on the same file system."""
    in_project = DATA.is_dir() and path.absolute().is_relative_to(Path.cwd())
    if in_project and DATA.stat().st_dev == path.parent.stat().st_dev:
        return DATA / UNFINISHED
    return path.parent / UNFINISHED


def delete_abandoned(parent: Path = DATA / UNFINISHED) -> None:
    """Delete the unfinished files in `parent` whose processes were killed.

    A process locks a file in its folder. When it dies, however it dies, the system removes the lock.
    """
    # It may stop to exist now. It stays if anything in it is in use, or is a download that can go on.
    with suppress(OSError):
        for folder in list(parent.iterdir()):
            if folder.is_dir():
                _delete_if_abandoned(folder)
        parent.rmdir()


@contextmanager
def _temporary_folder(parent: Path) -> Iterator[Path]:
    """Yield a new folder in `parent`, which is deleted at the end. Delete those of killed processes."""
    delete_abandoned(parent)
    folder, lock = _locked_folder(parent)
    try:
        yield folder
    finally:
        try:
            _delete_locked(folder)
        finally:
            os.close(lock)
        with suppress(OSError):  # another process has a folder in it
            parent.rmdir()


def _locked_folder(parent: Path) -> tuple[Path, int]:
    """Return a new folder in `parent`, and the descriptor of the file in it that is locked."""
    while True:
        folder = parent / secrets.token_hex(4)
        try:
            parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT)
        except (FileNotFoundError, FileExistsError):  # another process has just deleted an empty folder
            if not _is_folder_or_absent(parent):
                raise PipelineError(
                    f"{parent} must be a folder, and is a file or a link to nothing: delete it, and run the"
                    " command again"
                ) from None
            continue
        with suppress(OSError):  # a file system without locks; then nobody deletes the folder
            fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock).st_nlink:
            return folder, lock
        os.close(lock)  # another process has deleted it before it was locked


def _is_folder_or_absent(path: Path) -> bool:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return True
    return path.is_dir() if stat.S_ISLNK(mode) else stat.S_ISDIR(mode)


def _replace(part: Path, path: Path) -> None:
    """Move `part` to `path`. What is there is first moved beside `part`, if one of them is a folder."""
    while True:
        try:
            part.replace(path)
        except OSError as error:
            if error.errno not in OCCUPIED:
                raise
        else:
            return
        with suppress(FileNotFoundError):  # another process does the same at this moment
            path.rename(part.with_name(secrets.token_hex(4)))


def _delete_if_abandoned(folder: Path) -> None:
    # A folder that cannot be deleted is in use, or belongs to another user.
    with suppress(OSError):
        try:
            lock = os.open(folder / LOCK, os.O_RDWR)
        except FileNotFoundError:
            folder.rmdir()  # fails if there is anything in it
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _delete_locked(folder)
        finally:
            os.close(lock)


def _delete_locked(folder: Path) -> None:
    """Delete a folder, and the file that locks it last: without it, nobody would delete the rest."""
    for path in list(folder.iterdir()):
        if path.name != LOCK:
            _delete(path)
    (folder / LOCK).unlink()
    with suppress(FileNotFoundError):  # another process may delete an empty folder
        folder.rmdir()


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
