"""The error that is the user's to mend, and how a command ends with it."""

import errno
import sys
from collections.abc import Callable

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class PipelineError(Exception):
    """What is wrong with the input: its name, what was found, what was expected, what to do next."""


def run(main: Callable[[], None]) -> None:
    """Call `main`; end the process with status 1 and a bare message where the user's input is wrong.

    That is where it raises PipelineError, and where there is no room for what it writes.
    """
    try:
        main()
    except PipelineError as error:
        sys.exit(f"\n{error}\n")
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        sys.exit(f"\n{error.strerror}: {error.filename or 'the output'}: free some space, and run it again\n")
