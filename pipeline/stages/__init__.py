"""One file for each stage of dvc.yaml."""

import signal
import sys

if sys.argv[:1] == ["-m"]:  # as DVC runs a stage; a test or a notebook may also import one
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    from pipeline.errors import defer_interrupts

    defer_interrupts()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
