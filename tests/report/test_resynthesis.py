"""What is left of a clip in its features."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline import params
from pipeline.features import Feature
from pipeline.report import resynthesis
from tests.project import ROOT

RATE, SAMPLES = 22050, 17640


@pytest.fixture
def clip() -> NDArray[np.float32]:
    """Two gliding tones with a pause between them, and a little noise."""
    time = np.arange(SAMPLES) / RATE
    tone = np.sin(2 * np.pi * (300 * time + 400 * time**2)) + 0.5 * np.sin(2 * np.pi * 2500 * time)
    tone *= (time < 0.3) | (time > 0.5)
    noise = np.random.default_rng(0).normal(0, 0.003, SAMPLES)
    return (0.3 * tone + noise).astype(np.float32)


def _feature(name: str, **changes: Any) -> tuple[Any, dict[str, Any]]:
    section = {**params.load()["features"][name], **changes}
    feature = Feature.named(name)(**section)
    described = {"name": name, "magnitudes": feature.magnitudes, **section}
    return feature.kernel(RATE), {"audio": {"sample_rate": RATE}, "feature": described}


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize(("name", "apart"), [("stft", 0.15), ("logmel", 0.4), ("mfcc", 0.4)])
def test_the_waveform_has_the_feature(
    clip: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch, name: str, apart: float, center: bool
) -> None:
    """Its magnitudes, smoothed as the feature smooths them, are those of the clip, frame for frame."""
    monkeypatch.chdir(ROOT)
    kernel, made = _feature(name, center=center)
    rebuilt = resynthesis.waveform(kernel(clip[None])[0], made, samples=SAMPLES, iterations=32, seed=0)
    assert rebuilt is not None
    assert rebuilt.dtype == np.float32
    assert rebuilt.shape == (SAMPLES,)
    assert np.abs(rebuilt).max() <= 1
    mel, _ = _feature("logmel", center=True)

    def distance(waveform: NDArray[np.float32]) -> float:
        # Half a frame at the ends is not in frames that are not centred.
        had, has = (10 ** (mel(each[None])[0][4:-4] / 20) for each in (clip, waveform))
        return float(np.linalg.norm(has - had) / np.linalg.norm(had))

    assert distance(rebuilt) < apart
    assert distance(np.roll(rebuilt, 256)) > distance(rebuilt)
    assert distance(np.roll(rebuilt, -256)) > distance(rebuilt)


def test_it_is_the_same_again_and_another_for_another_seed(
    clip: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The phases that the algorithm starts from come from the seed alone."""
    monkeypatch.chdir(ROOT)
    kernel, made = _feature("stft")
    one, two, other = (
        resynthesis.waveform(kernel(clip[None])[0], made, samples=SAMPLES, iterations=2, seed=seed)
        for seed in (0, 0, 1)
    )
    assert one is not None
    assert other is not None
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)


def test_a_feature_without_a_spectrum_is_not_heard() -> None:
    """None is returned where the values are no spectrum, and where there is a single frame."""
    energy = {
        "audio": {"sample_rate": RATE},
        "feature": {"name": "energy", "magnitudes": False, "n_fft": 512},
    }
    assert resynthesis.waveform(np.ones((9, 1)), energy, samples=SAMPLES, iterations=2, seed=0) is None
    short = {**energy, "feature": {"magnitudes": True, "n_fft": 512, "center": False}}
    assert resynthesis.waveform(np.ones((1, 257)), short, samples=600, iterations=2, seed=0) is None
