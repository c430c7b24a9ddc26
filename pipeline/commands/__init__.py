"""The commands of `python -m pipeline`: one file each, with a function `main(arguments)`."""

import argparse

COMMANDS = {
    "check": "find every mistake in params.yaml",
    "store": "describe or validate a .h5 file",
    "predict": "classify recordings with the exported model",
    "summary": "print the scores of the last run, and where its results are",
    "experiments": "tabulate experiments: the parameters that differ, and the scores",
    "compare": "train every model on every feature, and compare them on one page",
    "crossval": "train and test on several folds: mean and deviation of the scores",
    "cache": "push metrics, check dvc.lock, or find damaged files in a cache or remote",
}


def parser(name: str) -> argparse.ArgumentParser:
    """Return the parser for the arguments of the command `name`."""
    return argparse.ArgumentParser(prog=f"python -m pipeline {name}", description=COMMANDS[name])
