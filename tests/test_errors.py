"""A command that fails ends with a message."""

from pathlib import Path

import pytest

from tests.project import python


@pytest.mark.parametrize(
    ("main", "message"),
    [
        ("raise PipelineError('a: is 1, must be 2')", "\na: is 1, must be 2\n\n"),
        (
            "open('large', 'wb').write(bytes(2 << 20))",
            "\ncannot write the output: File too large: free some space and run the command again\n\n",
        ),
    ],
)
def test_an_error_that_the_user_can_correct_is_only_a_message(
    tmp_path: Path, main: str, message: str
) -> None:
    """A mistake in the input and a full disk end the process with status 1 and without a traceback."""
    code = (
        "import resource; from pipeline.errors import PipelineError, run\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        f"def main():\n    {main}\n"
        "run(main)"
    )
    result = python("-c", code, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (1, message)
