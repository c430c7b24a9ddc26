"""Pictures of a clip: what stands where, in which units."""

from typing import Any

import librosa
import numpy as np
import pytest

from pipeline import params
from pipeline.features import Feature
from pipeline.report import clip_figures
from pipeline.report.figures import blank
from tests.project import ROOT

RATE, SAMPLES = 22050, 17640


def _drawn(name: str, values: Any = None, **changes: Any) -> Any:
    """The axes of a picture of one clip's feature."""
    section = {**params.load()["features"][name], **changes}
    feature = Feature.named(name)(**section)
    made = {
        "audio": {"sample_rate": RATE},
        "feature": {"name": name, "magnitudes": feature.magnitudes, **section},
    }
    if values is None:
        values = np.random.default_rng(0).random(feature.shape(SAMPLES))
    axes: Any = blank(3, 2).subplots()
    clip_figures.feature(axes, values, made, samples=SAMPLES)
    return axes


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(("center", "first"), [(False, 256 / RATE), (True, 0.0)])
def test_time_and_frequency_are_where_the_values_are(center: bool, first: float) -> None:
    """A cell's middle is the middle of its frame, in seconds, and its bin's frequency, in Hz."""
    axes = _drawn("stft", center=center)
    left, right, bottom, top = axes.images[0].get_extent()
    frames, bins = axes.images[0].get_array().shape[::-1]
    assert left + (right - left) / frames / 2 == pytest.approx(first)
    assert (right - left) / frames == pytest.approx(128 / RATE)
    assert bottom + (top - bottom) / bins / 2 == pytest.approx(0, abs=1e-6)
    assert top - (top - bottom) / bins / 2 == pytest.approx(RATE / 2)
    assert axes.get_xlim() == (0, SAMPLES / RATE)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("time (s)", "frequency (Hz)")
    assert axes.figure.axes[1].get_ylabel() == "dB"


def test_magnitudes_are_drawn_in_decibels() -> None:
    """20 log10 of the values, none further below the loudest than 80 dB."""
    values = np.geomspace(1e-9, 10, 134 * 257).reshape(134, 257)
    shown = _drawn("stft", values).images[0].get_array()
    assert shown.max() == pytest.approx(20)
    assert shown.min() == pytest.approx(-60)
    assert shown[256, 133] == pytest.approx(20)


def test_mel_bands_are_named_by_their_frequencies() -> None:
    """The axis of log-mel tells the middles of bands in Hz, as librosa has them."""
    axes = _drawn("logmel")
    middles = librosa.mel_frequencies(42, fmin=20, fmax=8000)[1:-1]
    for place, text in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True):
        assert text.get_text() == f"{middles[int(place)]:.0f}"


def test_the_first_cepstra_leave_the_others_their_colours() -> None:
    """Colours span the coefficients from the third on."""
    values = np.random.default_rng(0).normal(0, 3, (138, 39))
    values[:, 0], values[:, 1] = -400, 150
    low, high = _drawn("mfcc", values).images[0].get_clim()
    assert low == pytest.approx(values[:, 2:].min())
    assert high == pytest.approx(values[:, 2:].max())


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_a_clip_without_anything_in_it_is_drawn(value: float) -> None:
    """Silence, and values that are none, have a picture too."""
    low, high = _drawn("stft", np.full((134, 257), value)).images[0].get_clim()
    assert low < high


def test_a_waveform_is_drawn_between_its_extremes() -> None:
    """The outline reaches the largest and the smallest sample, however many samples there are."""
    samples = np.zeros(SAMPLES, np.float32)
    samples[5000], samples[9000] = 0.5, -0.25
    axes: Any = blank(3, 2).subplots()
    clip_figures.waveform(axes, samples, RATE)
    outline = axes.collections[0].get_paths()[0].vertices
    assert outline[:, 1].max() == 0.5
    assert outline[:, 1].min() == -0.25
    assert outline[outline[:, 1].argmax(), 0] == pytest.approx(5000 / RATE, abs=0.002)
    assert axes.get_xlabel() == "time (s)"
