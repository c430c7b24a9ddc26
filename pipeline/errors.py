"""The error that is the user's to mend, and how a command ends with it."""

import sys
from collections.abc import Callable


class PipelineError(Exception):
    """What is wrong with the input: its name, what was found, what was expected, what to do next."""


def run(main: Callable[[], None]) -> None:
    """Call `main`; end the process with status 1 and the bare message where it raises PipelineError."""
    try:
        main()
    except PipelineError as error:
        sys.exit(f"\n{error}\n")
