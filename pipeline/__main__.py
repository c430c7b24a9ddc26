"""The command line: `python -m pipeline COMMAND`."""

import difflib
import importlib
import sys

from pipeline.commands import COMMANDS
from pipeline.errors import PipelineError, run, uninterrupted


def main() -> None:
    """Run the command that the first argument names. Without one, list the commands."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help", "help"):
        print(_usage())
        return
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(COMMANDS)}"
        raise PipelineError(f"there is no command {name!r}: {hint}")
    with uninterrupted():
        command = importlib.import_module(f"pipeline.commands.{name}")
    command.main(arguments)


def _usage() -> str:
    lines = "\n".join(f"  {name:<12} {summary}" for name, summary in COMMANDS.items())
    return (
        f"usage: python -m pipeline COMMAND [...]\n\n{lines}\n\n"
        "python -m pipeline COMMAND --help describes one command. Everything else is DVC: dvc repro runs\n"
        "the pipeline, dvc exp run -S NAME=VALUE runs it with another parameter."
    )


if __name__ == "__main__":
    run(main)
