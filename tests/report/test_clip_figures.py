"""Pictures of a clip: where its values are, and in which units."""

from typing import Any

import librosa
import numpy as np
import pytest

from pipeline import params
from pipeline.features import Feature
from pipeline.report import clip_figures
from pipeline.report.figures import blank
from tests.features import own
from tests.project import ROOT

RATE, SAMPLES = 22050, 17640


def _drawn(name: str, values: Any = None, **changes: Any) -> Any:
    """Return the axes of a picture of one clip's feature."""
    return _draw({**params.load()["features"][name], **changes}, values)


def _draw(section: dict[str, Any], values: Any = None) -> Any:
    feature = Feature.restore(section)
    stored = {"audio": {"sample_rate": RATE}, "feature": feature.description("x", RATE)}
    if values is None:
        values = np.random.default_rng(0).random(feature.shape(SAMPLES))
    axes: Any = blank(3, 2).subplots()
    clip_figures.feature(axes, values, stored, samples=SAMPLES)
    return axes


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(("center", "first"), [(False, 256 / RATE), (True, 0.0)])
def test_time_and_frequency_are_where_the_values_are(center: bool, first: float) -> None:
    """The middle of a cell is at the middle of its frame, in s, and at the frequency of its bin, in Hz."""
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
    """Magnitudes are drawn as 20 log10, at most 80 dB below the loudest."""
    values = np.geomspace(1e-9, 10, 134 * 257).reshape(134, 257)
    shown = _drawn("stft", values).images[0].get_array()
    assert shown.max() == pytest.approx(20)
    assert shown.min() == pytest.approx(-60)
    assert shown[256, 133] == pytest.approx(20)


def test_mel_bands_are_named_by_their_frequencies() -> None:
    """The axis of log-mel shows the centres of bands in Hz, and librosa has the same."""
    axes = _drawn("logmel")
    centres = librosa.mel_frequencies(42, fmin=20, fmax=7600)[1:-1]
    for place, text in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True):
        assert text.get_text() == f"{centres[int(place)]:.0f}"


def test_a_linear_mel_feature_is_drawn_as_declared() -> None:
    """Bands are labelled in Hz, and linear values are drawn as 20 log10 of them, in dB."""
    with own.installed():
        values = np.full((138, 40), 10.0)
        values[0, 0] = 0.1
        axes = _draw(own.LINEAR_MEL, values)
    assert axes.get_ylabel() == "mel band, at (Hz)"
    centres = librosa.mel_frequencies(42, fmin=100, fmax=7000)[1:-1]
    assert axes.get_yticklabels()[0].get_text() == f"{centres[0]:.0f}"
    assert axes.get_yticklabels()[-1].get_text() == f"{centres[-1]:.0f}"
    assert axes.images[0].get_clim() == pytest.approx((-20, 20))
    assert axes.figure.axes[1].get_ylabel() == "dB"


def test_a_feature_that_declares_nothing_is_drawn_by_numbers() -> None:
    """Its axes are "frame" and "bin", counted from 0, and its values are drawn as they are."""
    with own.installed():
        values = np.arange(27.0).reshape(9, 3)
        axes = _draw(own.BARE, values)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("frame", "bin")
    assert axes.figure.axes[1].get_ylabel() == "value"
    assert axes.images[0].get_extent() == [-0.5, 8.5, -0.5, 2.5]
    assert axes.images[0].get_clim() == (0, 26)


def test_a_single_bin_has_the_height_of_its_axis() -> None:
    """One mel band is drawn from 0.5 below it to 0.5 above, one bin in hertz from low to high."""
    band = _drawn("logmel", np.ones((138, 1)), n_mels=1)
    assert band.images[0].get_extent()[2:] == [-0.5, 0.5]
    hertz = _drawn("stft", np.ones((134, 1)))
    assert hertz.images[0].get_extent()[2:] == [0, RATE / 2]


def test_the_first_two_cepstra_do_not_set_the_colours() -> None:
    """The colours span the range of the coefficients from the third on."""
    values = np.random.default_rng(0).normal(0, 3, (138, 39))
    values[:, 0], values[:, 1] = -400, 150
    low, high = _drawn("mfcc", values).images[0].get_clim()
    assert low == pytest.approx(values[:, 2:].min())
    assert high == pytest.approx(values[:, 2:].max())


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_silence_is_drawn(value: float) -> None:
    """Silence, NaN and infinite values have a picture too."""
    low, high = _drawn("stft", np.full((134, 257), value)).images[0].get_clim()
    assert low < high


def test_a_waveform_is_drawn_between_its_extremes() -> None:
    """The outline reaches the largest and the smallest sample, even between the visible steps."""
    samples = np.zeros(SAMPLES, np.float32)
    samples[5000], samples[9000] = 0.5, -0.25
    axes: Any = blank(3, 2).subplots()
    clip_figures.waveform(axes, samples, RATE)
    outline = axes.collections[0].get_paths()[0].vertices
    assert outline[:, 1].max() == 0.5
    assert outline[:, 1].min() == -0.25
    assert outline[outline[:, 1].argmax(), 0] == pytest.approx(5000 / RATE, abs=0.002)
    assert axes.get_xlabel() == "time (s)"
