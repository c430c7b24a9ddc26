"""A few of the kills of `make faults`: nothing is lost, and no process lives on."""

import itertools
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from tests.faults import Faults
from tests.project import Project


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
