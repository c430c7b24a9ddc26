import os
import pty
import re
import subprocess
import sys
import termios

import pytest

from pipeline.progress import Progress
from tests.project import ROOT


def test_a_log_gets_plain_lines(capfd: pytest.CaptureFixture[str]) -> None:
    """If stderr is not a terminal, the last line has the total and the rate, and no control characters."""
    with Progress(3, "clips", "decode") as progress:
        progress.update(3)
    out, err = capfd.readouterr()
    assert re.fullmatch(r"decode: 3 clips in 0\.\d s, [\d,]+ clips/s\n", out)
    assert err == ""


def test_failed_work_is_not_reported_as_done(capfd: pytest.CaptureFixture[str]) -> None:
    """If the block raises, no line with a total is printed."""

    def fail() -> None:
        with Progress(3, "clips", "decode"):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert capfd.readouterr().out == ""


def test_a_terminal_gets_a_bar() -> None:
    """If stderr is a terminal, it shows a progress bar."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    code = "from pipeline.progress import Progress\nwith Progress(3, 'clips', 'decode') as p: p.update(3)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, stderr=theirs, check=True)
    os.close(theirs)
    text = os.read(ours, 10000).decode()
    os.close(ours)
    assert "decode: 100%" in text
    assert "3/3" in text
