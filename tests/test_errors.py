"""A command that fails, or that is interrupted, ends with a message."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project import ROOT, python

ESCAPE = r"\x1b"
TOO_LARGE = "File too large: raise the limit of file sizes (ulimit -f), or use another file system"


@pytest.mark.parametrize(
    ("main", "message"),
    [
        ("raise PipelineError('a: is 1, must be 2')", "\na: is 1, must be 2\n\n"),
        (
            "open('large', 'wb').write(bytes(2 << 20))",
            f"\nstandard output, or an open file: {TOO_LARGE}\n\n",
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
            r"raise PipelineError('a\x1b[31m\r\x9b:\t1\n\x00 é')",
            "\na\\x1b[31m\\x0d\\x9b:\t1\n\\x00 é\n\n",
        ),
        (
            r"open('\x1b' * 300)",
            f"\n{ESCAPE * 300}: File name too long: choose a shorter name\n\n",
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


INTERRUPTED = "\ninterrupted: finished outputs are kept; run the same command again to go on from there\n"


UNINTERRUPTED = """
sys.excepthook = _print_exception
with uninterrupted(): os.kill(os.getpid(), signal.SIGINT); print('imported')
print('not here')
"""
# Python ignores exceptions in __del__.
DELETED = """
class Deleted:
    def __del__(self): os.kill(os.getpid(), signal.SIGINT)
def main():
    Deleted(); print('went on', flush=True); time.sleep(20); print('not here')
run(main)
"""
# Compiled code may raise another exception in place of KeyboardInterrupt.
TURNED = """
def main():
    try: os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt: raise ValueError('matrix') from None
run(main)
"""


@pytest.mark.parametrize(
    ("code", "printed"),
    [
        ("run(lambda: os.kill(os.getpid(), signal.SIGINT))", ""),
        (
            "defer_interrupts(); os.kill(os.getpid(), signal.SIGINT); print('imported'); run(print)",
            "imported\n",
        ),
        (UNINTERRUPTED, "imported\n"),
        (DELETED, "went on\n"),
        (TURNED, ""),
    ],
    ids=["run", "deferred", "uninterrupted", "deleted object", "turned into an error"],
)
def test_ctrl_c_prints_one_line(tmp_path: Path, code: str, printed: str) -> None:
    """An interrupted program says so in one line, after its imports, and ends as Ctrl-C ends programs."""
    code = (
        "import os, signal, sys, time\n"
        "from pipeline.errors import _print_exception, defer_interrupts, run, uninterrupted\n"
        f"{code}"
    )
    result = python("-c", code, cwd=tmp_path)
    assert result.returncode == -signal.SIGINT
    assert result.stderr == INTERRUPTED
    assert result.stdout == printed


def test_ctrl_c_after_the_end_prints_nothing(tmp_path: Path) -> None:
    """While Python ends, and waits for a thread, Ctrl-C ends the process without a traceback."""
    code = (
        "import os, signal, threading, time\n"
        "from pipeline.errors import run\n"
        "def interrupt():\n"
        "    threading.main_thread().join(); os.kill(os.getpid(), signal.SIGINT); time.sleep(20)\n"
        "run(threading.Thread(target=interrupt).start)"
    )
    result = python("-c", code, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (-signal.SIGINT, "")


def test_a_program_that_ignores_ctrl_c_goes_on_ignoring_it(tmp_path: Path) -> None:
    """A shell starts programs in the background so that they ignore SIGINT; that stays so."""
    code = (
        "import os, signal\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from pipeline.errors import defer_interrupts, run, uninterrupted\n"
        "def main():\n"
        "    with uninterrupted(): os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('went on')\n"
        "defer_interrupts(); run(main)"
    )
    assert python("-c", code, cwd=tmp_path).stdout == "went on\n"


def test_a_stage_is_interrupted_only_after_its_imports() -> None:
    """`python -m pipeline.stages.…` defers Ctrl-C; other programs that import a stage do not."""
    stage = "import pipeline.stages, signal; print(signal.getsignal(signal.SIGINT).__name__)"
    for argument, expected in (("-m", "defer"), ("pytest", "default_int_handler")):
        result = python("-c", f"import sys; sys.argv = ['{argument}']; {stage}", cwd=ROOT)
        assert result.stdout.strip() == expected


@pytest.mark.parametrize("main", ["print('a')", "print('a'); sys.exit(0)", "print('a' * 100_000)"])
def test_a_reader_that_has_enough_causes_no_traceback(tmp_path: Path, main: str) -> None:
    """If the pipe after a command is closed, as by `head`, the command ends and prints nothing about it."""
    start = "import sys, time; from pipeline.errors import run"
    code = f"{start}\ndef main():\n    time.sleep(1); {main}\nrun(main)"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() in (0, 1)


@pytest.mark.parametrize(
    ("environment", "printed"),
    [
        ({"LC_ALL": "C", "PYTHONUTF8": "0"}, "→ ± é\n"),
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}, "\\u2192 \\xb1 \\xe9\n"),
        ({"PYTHONIOENCODING": "latin-1"}, "\\u2192 ± é\n"),
    ],
)
def test_no_locale_is_an_error(tmp_path: Path, environment: dict[str, str], printed: str) -> None:
    """Names of files are UTF-8 in every locale. What standard output cannot show is escaped."""
    script = tmp_path / "é.py"
    script.write_text(
        "import sys; from pathlib import Path; from pipeline.errors import run\n"
        "def main():\n"
        "    Path('ü').touch(); print('→ ±', Path(sys.argv[0]).stem)\n"
        "run(main)",
        encoding="utf-8",
    )
    result = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        check=False,
    )
    encoding = "latin-1" if "latin-1" in environment.values() else "utf-8"
    assert result.stdout.decode(encoding) == printed, result.stderr
    assert (tmp_path / "ü").exists()
