"""The error for a mistake in the user's input, and how a command ends with it."""

import errno
import os
import sys
from collections.abc import Callable

# A full disk, an exceeded quota, a file larger than the system allows.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class PipelineError(Exception):
    """Something is wrong with the user's input.

    The message names it, and says what was found, what was expected, and what to do next.
    """


def run(main: Callable[[], None]) -> None:
    """Call `main`. If the user can correct its error, exit with status 1 and only a message.

    The user can correct a PipelineError and an OSError of `NO_ROOM`. Other exceptions pass through.
    """
    try:
        main()
    except PipelineError as error:
        sys.exit(f"\n{error}\n")
    except BrokenPipeError:  # the reader, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        path = error.filename or "the output"
        sys.exit(f"\ncannot write {path}: {error.strerror}: free some space and run the command again\n")
