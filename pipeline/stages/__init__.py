"""One file for each stage of dvc.yaml."""

import sys

from pipeline.errors import say_that_it_was_interrupted

# Set it here, before a stage imports what takes seconds.
sys.excepthook = say_that_it_was_interrupted
