"""The README's examples are run, and what it names exists."""

import re
import shlex
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from pipeline.commands.check import problems_in
from tests.project import ROOT, Project, read_csv

README = (ROOT / "README.md").read_text(encoding="utf-8")


def _block(start: str) -> str:
    """Return the README's block of Python that begins with `start`."""
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (block,) = [block for block in blocks if block.startswith(start)]
    return str(block)


def _module(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the README's file of this name as a module."""
    module = ModuleType(name.replace("/", "."))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(_block(f"# pipeline/{name}.py"), name, "exec"), module.__dict__)  # noqa: S102
    return module


def test_the_example_of_a_feature_computes_power(monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's feature has the shape and the values that its docstring promises."""
    feature = _module("features/energy", monkeypatch).Energy(
        kind="energy", n_fft=512, win_length=512, hop_length=128, window="hann", center=False, dtype="float32"
    )
    waveforms = np.random.default_rng(0).normal(size=(3, 17640)).astype(np.float32)
    values = feature.kernel(22050)(waveforms)
    assert values.shape == (3, *feature.shape(17640))
    frame = waveforms[1, 640:1152] * np.hanning(513)[:512]
    np.testing.assert_allclose(values[1, 5, 0], np.sum(np.abs(np.fft.rfft(frame)) ** 2), rtol=1e-5)


@pytest.mark.tensorflow
def test_the_layer_of_the_example_equals_its_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's feature has the same values inside a model as in its store."""
    feature = _module("features/energy", monkeypatch).Energy(
        kind="energy", n_fft=512, win_length=512, hop_length=128, window="hann", center=False, dtype="float32"
    )
    waveforms = np.random.default_rng(0).normal(size=(3, 17640)).astype(np.float32)
    inside = feature.layer(22050, 17640).predict(waveforms, verbose=0)
    np.testing.assert_allclose(inside, feature.kernel(22050)(waveforms), rtol=1e-5)


@pytest.mark.tensorflow
def test_the_example_of_a_model_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's model turns (clips, frames, bins) into (clips, labels)."""
    import keras

    model = _module("models/linear", monkeypatch).Linear()
    assert model.logits(keras.Input((5, 3)), 8).shape == (None, 8)


@pytest.mark.tensorflow
def test_the_example_of_a_prediction_is_that_of_the_pipeline(finished: Path, tmp_path: Path) -> None:
    """The README's lines classify a test clip as the stage `evaluate` does, from the same file."""
    project = Project(tmp_path / "project", copied=finished)
    project.export()
    row = read_csv(finished / "results/predictions.csv")[0]
    code = _block("# Classify recordings.")
    assert 'sorted(Path("data/raw").glob("[a-z]*/*"))[:3]' in code
    code = code.replace(
        'sorted(Path("data/raw").glob("[a-z]*/*"))[:3]', f"[Path('data/raw', {row['clip']!r})]"
    )
    path, label, probability = project.run(sys.executable, "-c", code).split()
    assert path == f"data/raw/{row['clip']}"
    assert label == row["prediction"]
    assert float(probability) == pytest.approx(float(row["probability"]), abs=1e-3)


def test_files_that_the_readme_names_exist() -> None:
    """Each file of the project that the README links to or names by its path exists."""
    named = set(re.findall(r"(?:pipeline|tests|docs|notebooks)/[\w/]+\.(?:py|md|png|ipynb)", README))
    assert named
    missing = {path for path in named if not Path(ROOT, path).exists()}
    assert missing == {"pipeline/features/energy.py", "pipeline/models/linear.py"}


def test_commands_that_the_readme_names_exist() -> None:
    """Each `make` target in the README is in the Makefile, and each `python -m pipeline` command exists."""
    from pipeline.commands import COMMANDS

    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"\bmake ([a-z]+)", README))
    assert {"run", "test", "compare", "deps", "lock", "servers", "push"} <= targets
    assert targets <= set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    commands = set(re.findall(r"python -m pipeline ([a-z]+)", README))
    assert {"check", "store", "experiments", "crossval", "cache"} <= commands <= set(COMMANDS)


def test_the_picture_is_small() -> None:
    """The README's picture is a PNG of less than 300 kB."""
    picture = (ROOT / "docs/report.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 300_000


def _commands() -> Iterator[tuple[str, list[str]]]:
    """Yield each `dvc exp run` of the documentation that sets values, and the values."""
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(r"^ *(dvc exp run .*)", text, re.MULTILINE):
            if "--queue" not in line and "$" not in line:
                words = shlex.split(line.partition("&&")[0], comments=True)
                yield f"{path.name}: {line}", [word for flag, word in pairwise(words) if flag == "-S"]


def test_the_documented_values_are_parameters(tmp_path: Path) -> None:
    """Each value that a documented command sets is one that params.yaml has, and it is a valid one.

    The README's example of a new feature and a new model is left out.
    """
    from dvc.utils.hydra import apply_overrides

    commands = [(name, values) for name, values in _commands() if "energy" not in name]
    assert len(commands) > 15
    for name, values in commands:
        content = (ROOT / "params.yaml").read_text(encoding="utf-8")
        (tmp_path / "params.yaml").write_text(content, encoding="utf-8")
        try:
            apply_overrides(tmp_path / "params.yaml", values)
        except Exception as error:  # noqa: BLE001 - any error is a wrong command
            pytest.fail(f"{name}: {error}")
        problems = problems_in(YAML(typ="safe", pure=True).load((tmp_path / "params.yaml").read_text()))
        assert not problems, f"{name}: {problems}"
