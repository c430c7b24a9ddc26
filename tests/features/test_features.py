"""Every feature against its reference, and what all of them must hold."""

import ast
import zipfile
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from pipeline.features import Feature
from pipeline.features.mfcc import Mfcc
from pipeline.features.stft import Stft
from tests.conftest import ROOT

pytestmark = pytest.mark.filterwarnings("ignore:Empty filters detected")

Waveforms = NDArray[np.float32]
SAMPLES, RATE = 17640, 22050
STFT = Stft(n_fft=512, hop_length=128)
MFCC = Mfcc(n_mfcc=39, n_mels=128, n_fft=512, hop_length=128)
ALL: list[Feature] = [
    STFT,
    Stft(n_fft=400, hop_length=160),
    MFCC,
    Mfcc(n_mfcc=13, n_mels=40, n_fft=1024, hop_length=220),
]
each_feature = pytest.mark.parametrize("feature", ALL, ids=lambda feature: f"{feature!r}")


def _hard_waveforms() -> Waveforms:
    """Noise, silence, a full-scale square wave, one click, a quiet tone, and a loud one."""
    time = np.arange(SAMPLES) / RATE
    rows = np.zeros((20, SAMPLES), np.float32)
    rows[:14] = np.random.default_rng(0).uniform(-0.5, 0.5, (14, SAMPLES))
    rows[15] = np.sign(np.sin(2 * np.pi * 440 * time))
    rows[16, 9000] = 1
    rows[17] = 1e-5 * np.sin(2 * np.pi * 1000 * time)
    rows[18] = np.sin(2 * np.pi * 1000 * time)
    rows[19, :300] = 0.5
    return rows


def _reference(feature: Feature, y: Waveforms) -> NDArray[np.float32]:
    if isinstance(feature, Stft):
        spectrum = librosa.stft(y, n_fft=feature.n_fft, hop_length=feature.hop_length, center=False)
        magnitudes: NDArray[np.float32] = np.abs(spectrum).T
        return magnitudes
    assert isinstance(feature, Mfcc)
    cepstra: NDArray[np.float32] = librosa.feature.mfcc(y=y, sr=RATE, **feature.model_dump()).T
    return cepstra


def _check(feature: Feature, waveforms: Waveforms) -> None:
    for y, row in zip(waveforms, feature.kernel(RATE)(waveforms), strict=True):
        expected = _reference(feature, y)
        tolerance = 1e-5 * np.abs(expected).max() if isinstance(feature, Stft) else 1e-3
        np.testing.assert_allclose(row, expected, rtol=0, atol=max(tolerance, 1e-30))


@each_feature
def test_hard_clips_equal_librosa(feature: Feature) -> None:
    """librosa's values, clip by clip, for noise, silence, a square wave, a click and tones."""
    _check(feature, _hard_waveforms())


@each_feature
def test_real_clips_equal_librosa(feature: Feature, real_archive: Path) -> None:
    """librosa's values on every 30th of the real clips."""
    with zipfile.ZipFile(real_archive) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".wav"))[::30]
        waveforms = np.zeros((len(names), SAMPLES), np.float32)
        for waveform, name in zip(waveforms, names, strict=True):
            with archive.open(name) as file:
                samples = soundfile.read(file, dtype="float32")[0]
            waveform[: len(samples)] = samples[:SAMPLES]
    _check(feature, waveforms)


@pytest.mark.tensorflow
@pytest.mark.parametrize("n_fft", [512, 400])
def test_the_stft_equals_tensorflows(n_fft: int) -> None:
    """tf.signal.stft's magnitudes, to 1e-5 of the row's largest, for an n_fft that is no power of two too."""
    import tensorflow as tf

    waveforms = _hard_waveforms()
    expected = np.abs(tf.signal.stft(waveforms, n_fft, 128, fft_length=n_fft).numpy())
    largest = np.maximum(expected.max(axis=(1, 2), keepdims=True), 1e-30)
    values = Stft(n_fft=n_fft, hop_length=128).kernel(RATE)(waveforms)
    np.testing.assert_array_less(np.abs(values - expected) / largest, 1e-5)


@each_feature
def test_a_clip_does_not_depend_on_its_neighbours(feature: Feature) -> None:
    """Bit for bit the same row alone, in any order and in any number."""
    waveforms = _hard_waveforms()
    together = feature.kernel(RATE)(waveforms)
    order = np.random.default_rng(1).permutation(len(waveforms))
    np.testing.assert_array_equal(feature.kernel(RATE)(waveforms[order]), together[order])
    for number in range(len(waveforms)):
        np.testing.assert_array_equal(feature.kernel(RATE)(waveforms[number:][:1])[0], together[number])


@each_feature
@pytest.mark.parametrize("samples", [1024, 1025, 1500, 17640])
def test_the_shape_is_the_one_announced(feature: Feature, samples: int) -> None:
    """The kernel returns (clips, frames, bins) float32 of the shape that shape tells before."""
    values = feature.kernel(RATE)(np.ones((3, samples), np.float32))
    assert values.shape == (3, *feature.shape(samples))
    assert values.dtype == np.float32


def test_the_default_shapes() -> None:
    """0.8 s at 22,050 Hz give 134 frames of 257 bins, and 138 of 39."""
    assert STFT.shape(SAMPLES) == (134, 257)
    assert MFCC.shape(SAMPLES) == (138, 39)


def test_a_clip_shorter_than_a_frame_has_no_frames() -> None:
    """Fewer samples than n_fft give no frame without padding."""
    assert STFT.shape(511)[0] == 0


def test_features_know_no_file_and_no_store() -> None:
    """Their code imports NumPy, SciPy, librosa's filters and the shared spectrum: nothing that reads."""
    for path in (ROOT / "pipeline" / "features").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("pipeline"):
                assert node.module in {"pipeline", "pipeline.errors", "pipeline.features", "pipeline.params"}
            elif isinstance(node, ast.Import):
                roots = {alias.name.partition(".")[0] for alias in node.names}
                assert roots <= {"numpy", "scipy", "librosa", "importlib"}


def test_every_feature_is_found_by_its_files_name() -> None:
    """Each file of the folder is a feature that its name leads to."""
    names = [path.stem for path in (ROOT / "pipeline" / "features").glob("[a-z]*.py")]
    assert names
    for name in names:
        assert issubclass(Feature.named(name), Feature)
