"""The README's examples, run."""

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.project import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def _module(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The README's block of Python that begins with the file's name, as a module."""
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (block,) = [block for block in blocks if block.startswith(f"# pipeline/{name}.py")]
    module = ModuleType(name.replace("/", "."))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(block, name, "exec"), module.__dict__)  # noqa: S102
    return module


def test_the_example_of_a_feature_computes_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's feature has the shape it announces and the values that its docstring names."""
    feature = _module("features/energy", monkeypatch).Energy(
        n_fft=512, win_length=512, hop_length=128, window="hann", center=False, dtype="float32"
    )
    waveforms = np.random.default_rng(0).normal(size=(3, 17640)).astype(np.float32)
    values = feature.kernel(22050)(waveforms)
    assert values.shape == (3, *feature.shape(17640))
    frame = waveforms[1, 640:1152] * np.hanning(513)[:512]
    np.testing.assert_allclose(values[1, 5, 0], np.sum(np.abs(np.fft.rfft(frame)) ** 2), rtol=1e-5)


@pytest.mark.tensorflow
def test_the_example_of_a_model_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's model takes (clips, frames, bins) to (clips, labels)."""
    import keras

    model = _module("models/linear", monkeypatch).Linear()
    assert model.logits(keras.Input((5, 3)), 8).shape == (None, 8)


def test_what_the_readme_names_is_there() -> None:
    """Each file of the project that the README links to or names by its path exists."""
    named = set(re.findall(r"(?:pipeline|tests|docs)/[\w/]+\.(?:py|md)", README))
    assert named
    missing = {path for path in named if not Path(ROOT, path).exists()}
    assert missing == {"pipeline/features/energy.py", "pipeline/models/linear.py"}
