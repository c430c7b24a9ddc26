import os
import pty
import re
import subprocess
import sys
import termios
from contextlib import suppress

import pytest

from pipeline.progress import Progress, quietly
from tests.project import ROOT


def test_a_log_gets_plain_lines(capfd: pytest.CaptureFixture[str]) -> None:
    """If stderr is not a terminal, the last line has the total and the rate, and no control characters."""
    with Progress(3, "clips", "decode") as progress:
        progress.update(3)
    out, err = capfd.readouterr()
    assert re.fullmatch(r"decode: 3 clips in 0\.\d s, [\d,]+ clips/s\n", out)
    assert err == ""


def test_work_that_begins_again_is_counted_once(capfd: pytest.CaptureFixture[str]) -> None:
    """The last line has only the units since the last start, not those that were done before."""
    with Progress(0, "B", "download") as progress:
        progress.update(40)
        progress.restart(30, 100)
        progress.update(70)
    assert capfd.readouterr().out.startswith("download: 70 B in ")


def test_a_line_has_the_total_only_if_it_is_known(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the work goes on, lines have what is done, with what was done before."""
    monkeypatch.setattr("pipeline.progress.SECONDS_BETWEEN_LINES", -1.0)
    with Progress(0, "B", "download") as progress:
        progress.restart(0, 0)
        progress.update(40)
        progress.restart(30, 100)
        progress.update(10)
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].startswith("download: 40 B, ")
    assert lines[1].startswith("download: 40 of 100 B, ")


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
    text = _on_terminal("with Progress(3, 'clips', 'decode') as bar: bar.update(3)")
    assert "decode: 100%" in text
    assert "3/3" in text


def test_a_bar_starts_again_where_the_work_does() -> None:
    """After a restart, the bar shows what was done before, of the new total."""
    text = _on_terminal(
        "with Progress(0, 'clips', 'decode') as bar: bar.update(2); bar.restart(3, 4); bar.update(1)"
    )
    assert "3/4" in text
    assert "4/4" in text


def _on_terminal(code: str) -> str:
    """Return what `code`, which uses Progress, writes to stderr if that is a terminal."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    code = f"from pipeline.progress import Progress\n{code}"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, stderr=theirs, check=True)
    os.close(theirs)
    with open(ours, "rb", buffering=0) as terminal:
        parts = []
        with suppress(OSError):  # a terminal that nobody has open any more
            while part := terminal.read(10000):
                parts.append(part)
    return b"".join(parts).decode()


def test_quietly_hides_what_libraries_write() -> None:
    """Python and C code write to standard error in the block, and nothing of it appears; later text does."""
    code = """if True:
        import os, sys
        from pipeline.progress import quietly
        with quietly():
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

    with pytest.raises(ImportError, match="no library"), quietly():
        fail()
    assert capfd.readouterr().err == "a hint\nfrom a library\n"
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"
