"""One file for each stage of dvc.yaml."""

import sys

from pipeline.errors import defer_interrupts

if sys.argv[:1] == ["-m"]:  # as DVC runs a stage; a test or a notebook may also import one
    defer_interrupts()
