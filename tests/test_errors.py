"""A command that fails, or that is interrupted, ends with a message."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project import ROOT, python

TOO_LARGE = "File too large: raise the limit of file sizes (ulimit -f), or use another file system"


@pytest.mark.parametrize(
    ("main", "message"),
    [
        ("raise PipelineError('a: is 1, must be 2')", "\na: is 1, must be 2\n\n"),
        (
            "open('large', 'wb').write(bytes(2 << 20))",
            f"\na file: {TOO_LARGE}\n\n",
        ),
        (
            "with atomic_write(Path('large')) as part: part.write_bytes(bytes(2 << 20))",
            f"\nlarge: {TOO_LARGE}\n\n",
        ),
        (
            "open('x' * 300)",
            f"\n{'x' * 300}: File name too long: choose a shorter name\n\n",
        ),
        (
            "open('.')",
            "\n.: Is a directory: it is a folder, expected a file: move it away\n\n",
        ),
    ],
)
def test_an_error_that_the_user_can_correct_is_only_a_message(
    tmp_path: Path, main: str, message: str
) -> None:
    """A mistake in the input and a full disk end the process with status 1 and without a traceback."""
    code = (
        "import resource; from pathlib import Path; from pipeline.errors import PipelineError, run\n"
        "from pipeline.files import atomic_write\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        f"def main():\n    {main}\n"
        "run(main)"
    )
    result = python("-c", code, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (1, message)


def test_another_error_of_the_system_keeps_its_traceback(tmp_path: Path) -> None:
    """An error that no user can correct, such as a bug that opens a missing file, is not hidden."""
    result = python("-c", "from pipeline.errors import run\nrun(lambda: open('missing'))", cwd=tmp_path)
    assert result.returncode == 1
    assert "Traceback" in result.stderr


@pytest.mark.parametrize("start", ["import pipeline.stages", "import pipeline.stages.decode"])
def test_ctrl_c_prints_one_line(tmp_path: Path, start: str) -> None:
    """An interrupted stage says so in one line, and ends as a program that Ctrl-C has ended."""
    code = f"{start}, os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == -signal.SIGINT
    assert result.stderr == (
        "\ninterrupted: nothing is lost: what was finished is kept; run the same command to go on\n"
    )
