"""The command line as a whole."""

import subprocess
import sys

import pytest

from pipeline.commands import COMMANDS
from tests.project import ROOT, pipeline


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_commands_are_listed(arguments: tuple[str, ...]) -> None:
    """Without a command, or with --help, each command has one line."""
    result = pipeline(*arguments)
    assert result.returncode == 0
    for name, summary in COMMANDS.items():
        assert f"  {name:<12} {summary}\n" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100


def test_every_file_of_commands_is_a_command() -> None:
    """No command is left out of the list, and each has a file."""
    assert {path.stem for path in (ROOT / "pipeline/commands").glob("[a-z]*.py")} == set(COMMANDS)


@pytest.mark.parametrize(
    ("name", "hint"), [("chekc", "did you mean check?"), ("xyz", "expected one of check, store, predict")]
)
def test_an_unknown_command_names_the_nearest(name: str, hint: str) -> None:
    """A misspelt command is an error that names the nearest one, or all of them."""
    result = pipeline(name)
    assert result.returncode == 1
    assert f"there is no command {name!r}: {hint}" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_describes_itself(name: str) -> None:
    """`python -m pipeline COMMAND --help` says what the command does, and needs no params.yaml."""
    result = pipeline(name, "--help", cwd=ROOT / "docs")
    assert result.returncode == 0, result.stderr
    assert f"usage: python -m pipeline {name}" in result.stdout
    assert COMMANDS[name] in " ".join(result.stdout.split())


def test_listing_and_checking_import_no_heavy_library() -> None:
    """`--help` imports only the list of commands; `check` imports neither TensorFlow nor librosa."""
    code = """if True:
        import sys
        sys.argv = ["pipeline", *{arguments}]
        import runpy
        runpy.run_module("pipeline", run_name="__main__")
        assert not {names} & set(sys.modules), {names} & set(sys.modules)
    """
    for arguments, names in (
        (["--help"], {"numpy", "pydantic", "ruamel.yaml", "dvc"}),
        (["check"], {"tensorflow", "keras", "librosa", "dvc"}),
    ):
        source = code.format(arguments=arguments, names=names)
        subprocess.run([sys.executable, "-c", source], cwd=ROOT, check=True)
