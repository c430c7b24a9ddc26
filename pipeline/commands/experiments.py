"""`python -m pipeline experiments`: `dvc exp show` with the options that make it readable."""

import subprocess
import sys
from collections.abc import Sequence

from pipeline.commands import parser
from pipeline.serving.export import PATHS

# Columns of files: every dependency and output of every stage.
FILES = r"^(data|models|pipeline|results)(/|$)"
# These would make the table wider than a terminal: the bounds of the accuracy's interval, the time, and the
# scores of the exported formats.
WIDE = rf"^(low_95|high_95|Created|reason|({'|'.join(PATHS)})\..*)$"
# Shown even if they are the same in all experiments.
SCORES = r"^(accuracy|macro_f1|loss|epoch)$"
OPTIONS = ("--only-changed", "--drop", f"{FILES}|{WIDE}", "--keep", SCORES)


def main(arguments: Sequence[str]) -> None:
    """Print the table. Arguments that this command does not know are passed on to `dvc exp show`."""
    options = parser("experiments")
    options.epilog = "Other options are passed on to dvc exp show: --all-commits, --sort-by accuracy, --csv"
    _, others = options.parse_known_args(arguments)
    command = [sys.executable, "-m", "dvc", "exp", "show", *OPTIONS, *others]
    sys.exit(subprocess.run(command, check=False).returncode)
