"""How TensorFlow is started."""

import os
import subprocess
import sys

import pytest

from pipeline.learning import runtime
from tests.project import ROOT


def test_quietly_hides_what_libraries_write() -> None:
    """Python and C code write to standard error in the block, and nothing of it appears; later text does."""
    code = """if True:
        import os, sys
        from pipeline.learning import runtime
        with runtime.quietly():
            print("from Python", file=sys.stderr, flush=True)
            os.write(2, b"from C")
        os.write(2, b"after")
    """
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stderr == "after"


def test_quietly_shows_everything_if_the_block_raises(capfd: pytest.CaptureFixture[str]) -> None:
    """If the block raises, what was hidden is written after all, in order, and the error goes on."""

    def fail() -> None:
        os.write(2, b"a hint\nfrom a library\n")
        raise ImportError("no library")

    with pytest.raises(ImportError, match="no library"), runtime.quietly():
        fail()
    assert capfd.readouterr().err == "a hint\nfrom a library\n"
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


@pytest.mark.tensorflow
def test_tensorflow_starts_without_a_word() -> None:
    """Starting TensorFlow writes nothing to standard error, whatever it finds on this machine."""
    code = "from pipeline.learning import runtime; runtime.start(7)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stderr == ""
