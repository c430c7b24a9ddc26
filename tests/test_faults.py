"""A few of the kills of `make faults`: nothing is lost, and no process lives on."""

import itertools
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from tests.faults import Faults, has_traceback
from tests.project import Project

# What Ctrl-C made Python print, shortened.
IN_SITE = """\
Fatal Python error: init_import_site: Failed to import the site module
Python runtime state: initialized
Traceback (most recent call last):
  File "<frozen os>", line 46, in _get_exports_list
AttributeError: module 'posix' has no attribute '__all__'. Did you mean: '__name__'?

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "<frozen importlib._bootstrap>", line 1176, in _find_and_load
  File "<frozen site>", line 73, in <module>
  File "<frozen os>", line 48, in _get_exports_list
KeyboardInterrupt
"""
BEFORE_RUNPY = """\
Could not import runpy module
Traceback (most recent call last):
  File "<frozen importlib._bootstrap>", line 1176, in _find_and_load
  File "<frozen runpy>", line 15, in <module>
  File "<frozen importlib.util>", line 14, in <module>
  File "/usr/lib/python3.11/contextlib.py", line 7, in <module>
    from functools import wraps
  File "<frozen importlib._bootstrap_external>", line 729, in _compile_bytecode
KeyboardInterrupt
"""
IN_RUNPY = """\
Traceback (most recent call last):
  File "<frozen runpy>", line 189, in _run_module_as_main
  File "<frozen runpy>", line 112, in _get_module_details
  File "<frozen importlib._bootstrap_external>", line 1683, in _fill_cache
KeyboardInterrupt
"""
IN_PROJECT = """\
Traceback (most recent call last):
  File "<frozen runpy>", line 189, in _run_module_as_main
  File "<frozen runpy>", line 112, in _get_module_details
  File "/project/pipeline/stages/__init__.py", line 5, in <module>
    from pipeline.errors import defer_interrupts
  File "/usr/lib/python3.11/signal.py", line 9, in <lambda>
    lambda name:

KeyboardInterrupt
"""
IN_LIBRARY = """\
Traceback (most recent call last):
  File "<frozen runpy>", line 189, in _run_module_as_main
  File "<frozen runpy>", line 112, in _get_module_details
  File "/usr/lib/python3.11/site-packages/joblib/__init__.py", line 115, in <module>
    from ._parallel_backends import ParallelBackendBase
KeyboardInterrupt
"""


WITHOUT_WORK = """\
LokyProcess-1 failed with traceback:\x20
--------------------------------------------------------------------------------
Traceback (most recent call last):
  File "/usr/lib/python3.11/site-packages/joblib/externals/loky/backend/popen.py", line 174, in <module>
    prep_data = pickle.load(from_parent)
                ^^^^^^^^^^^^^^^^^^^^^^^^
EOFError: Ran out of input

--------------------------------------------------------------------------------
"""


@pytest.mark.parametrize("early", [IN_SITE, BEFORE_RUNPY, IN_RUNPY, WITHOUT_WORK])
def test_only_a_traceback_of_the_start_of_python_does_not_count(early: str) -> None:
    """It hides no other one, of the project or of a library, and it counts if it has another reason."""
    assert not has_traceback("decode: 3 clips\n")
    assert not has_traceback(f"decode: 3 clips\n{early}{early}")
    for other in (IN_PROJECT, IN_LIBRARY):
        assert has_traceback(other)
        assert has_traceback(early + other)
        assert has_traceback(other + early)
    otherwise = re.sub("KeyboardInterrupt|EOFError", "MemoryError", early)
    assert has_traceback(otherwise)
    assert has_traceback(otherwise + IN_PROJECT)


@pytest.fixture(scope="module")
def faults(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Faults:
    """A clone whose pipeline has run once."""
    return Faults(Project(tmp_path_factory.mktemp("home") / "project", copied=finished))


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("extract", signal.SIGKILL),
        ("decode", signal.SIGTERM),
        ("featurize@stft", signal.SIGINT),
        pytest.param("train", signal.SIGKILL, marks=pytest.mark.tensorflow),
    ],
)
def test_a_killed_stage_loses_nothing(faults: Faults, name: str, end: signal.Signals) -> None:
    """After two kills, outputs are whole or absent, no process lives, and `dvc repro` mends the rest."""
    (stage,) = [stage for stage in faults.stages if stage.name == name]
    start = time.monotonic()
    assert faults.run(stage).lost == []
    longest = time.monotonic() - start
    generator = np.random.default_rng(0)
    moments = (generator.uniform(0.1, longest) for _ in itertools.count())
    assert faults.kill(stage, end, 2, moments) == []


@pytest.mark.tensorflow
def test_a_training_that_is_killed_five_times_ends_with_the_same_bytes(
    finished: Path, tmp_path: Path
) -> None:
    """After SIGKILL in five epochs, the same command gives the model and the log of an undisturbed one."""
    project = Project(tmp_path / "project", copied=finished)
    project.set_params({"train.epochs": 40, "train.patience": 40})
    project.repro("train")
    faults = Faults(project)
    (stage,) = [stage for stage in faults.stages if stage.name == "train"]

    def last() -> int:
        files = (project.path / "data/kept/train").glob("*/*")
        return max((int(file.name) for file in files if file.name.isdecimal()), default=0)

    for _ in range(5):
        before = last()

        def goes_on(before: int = before) -> bool:
            return last() > before

        assert faults.run(stage, signal.SIGKILL, until=goes_on) == (True, [])
    assert 5 <= last() < 40
    assert f"training goes on after epoch {last()}" in project.run("dvc", "repro", "-fs", "train")
    expected = {name: faults.expected[name] for name in faults.digests(stage.outputs)}
    assert faults.digests(stage.outputs) == expected
    assert not (project.path / "data/kept/train").exists()
