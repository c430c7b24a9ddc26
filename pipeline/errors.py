"""The error for a mistake in the user's input, and how a command ends with it."""

import errno
import os
import sys
from collections.abc import Callable
from types import TracebackType

# A full disk, an exceeded quota, a file larger than the system or the user's limit allows.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = "change its permissions, or run the command as the user who owns it"
# What to do about errors of the system that the user can correct.
REMEDIES = {
    errno.ENOSPC: "free some space and run the command again",
    errno.EDQUOT: "free some space, or raise the quota, and run the command again",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f), or use another file system",
    errno.EACCES: FORBIDDEN,
    errno.EPERM: FORBIDDEN,
    errno.EROFS: "make the file system writable, or clone the project to another one",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EISDIR: "it is a folder, expected a file: move it away",
    errno.ENOTDIR: "a part of this path is a file, expected a folder: move it away",
    errno.ENOTEMPTY: "another command writes to this folder: wait until it ends, and run this one again",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close other programs, which have too many files open",
    errno.EIO: "the disk or the network failed: check it, and run the command again",
    errno.ESTALE: "the network file system failed: run the command again",
}


class PipelineError(Exception):
    """Something is wrong with the user's input.

    The message names it, and says what was found, what was expected, and what to do next.
    """


def run(main: Callable[[], None]) -> None:
    """Call `main`. If the user can correct its error, exit with status 1 and only a message.

    The user can correct a PipelineError and an OSError of `REMEDIES`. Other exceptions pass through.
    """
    try:
        main()
    except PipelineError as error:
        sys.exit(f"\n{error}\n")
    except BrokenPipeError:  # the reader, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0)
        if remedy is None:
            raise
        path = error.filename or "a file"
        sys.exit(f"\n{path}: {error.strerror}: {remedy}\n")


def say_that_it_was_interrupted(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print one line if the user pressed Ctrl-C, else the usual traceback. This is a `sys.excepthook`."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    going_on = str(error) or "what was finished is kept"
    print(f"\ninterrupted: nothing is lost: {going_on}; run the same command to go on", file=sys.stderr)
