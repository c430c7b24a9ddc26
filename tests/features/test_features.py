"""Every feature against its reference, and what all of them must hold."""

import ast
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from pydantic import ValidationError

from pipeline.features import Feature, Spectral, to_decibels
from pipeline.features.logmel import Logmel
from pipeline.features.mfcc import Mfcc
from pipeline.features.stft import Stft
from tests.project import ROOT

pytestmark = pytest.mark.filterwarnings("ignore:Empty filters detected")

Waveforms = NDArray[np.float32]
SAMPLES, RATE = 17640, 22050
CUT: dict[str, Any] = {
    "n_fft": 512,
    "win_length": 512,
    "hop_length": 128,
    "window": "hann",
    "center": False,
    "dtype": "float32",
}
MEL: dict[str, Any] = {**CUT, "center": True, "n_mels": 128, "fmin": 0.0, "fmax": None}
STFT = Stft(**CUT)
MFCC = Mfcc(**MEL, n_mfcc=39)
ALL: list[Spectral] = [
    STFT,
    Stft(**{**CUT, "n_fft": 400, "win_length": 321, "hop_length": 160, "window": "hamming"}),
    Stft(**{**CUT, "n_fft": 1024, "win_length": 600, "window": "blackman", "center": True}),
    Stft(**{**CUT, "win_length": 1}),
    Logmel(**{**MEL, "n_mels": 40, "fmin": 20.0, "fmax": 8000.0}),
    Logmel(**{**MEL, "win_length": 400, "hop_length": 220, "window": "boxcar", "center": False}),
    MFCC,
    Mfcc(**{**MEL, "n_mels": 40, "n_fft": 1024, "hop_length": 220, "fmin": 50.0}, n_mfcc=13),
    Mfcc(**{**MEL, "win_length": 300, "window": "hamming", "center": False}, n_mfcc=20),
]
each_feature = pytest.mark.parametrize("feature", ALL, ids=lambda feature: f"{feature!r}")


def _hard_waveforms() -> Waveforms:
    """Noise, silence, a square wave, a click, tones low and high, quiet and loud, a sweep, huge noise."""
    time = np.arange(SAMPLES) / RATE
    rows = np.zeros((27, SAMPLES), np.float32)
    rows[:14] = np.random.default_rng(0).uniform(-0.5, 0.5, (14, SAMPLES))
    rows[15] = np.sign(np.sin(2 * np.pi * 440 * time))
    rows[16, 9000] = 1
    rows[17] = 1e-5 * np.sin(2 * np.pi * 1000 * time)
    rows[18] = np.sin(2 * np.pi * 1000 * time)
    rows[19, :300] = 0.5
    for row, hertz in ((20, 31.7), (21, 5000), (22, 9000), (23, 10990)):
        rows[row] = np.sin(2 * np.pi * hertz * time)
    rows[24] = np.sin(2 * np.pi * 5000 * time**2)
    rows[25] = 1e12 * rows[0]
    rows[26] = 1e-12 * rows[0]
    return rows


def _reference(feature: Feature, y: Waveforms) -> NDArray[np.float32]:
    how = feature.model_dump(exclude={"dtype"})
    match feature:
        case Stft():
            values = np.abs(librosa.stft(y, **how))
        case Logmel():
            values = librosa.power_to_db(librosa.feature.melspectrogram(y=y, sr=RATE, **how))
        case _:
            values = librosa.feature.mfcc(y=y, sr=RATE, **how)
    expected: NDArray[np.float32] = values.T
    return expected


def _check(feature: Feature, waveforms: Waveforms) -> None:
    """Within 1e-5 of the row's largest magnitude; cepstra 1e-3."""
    for y, row in zip(waveforms, feature.kernel(RATE)(waveforms), strict=True):
        expected = _reference(feature, y)
        tolerance = 1e-3 if isinstance(feature, Mfcc) else max(1e-5 * np.abs(expected).max(), 1e-30)
        np.testing.assert_allclose(row, expected, rtol=0, atol=tolerance)


@each_feature
def test_hard_clips_equal_librosa(feature: Feature) -> None:
    """librosa's values, clip by clip, for noise, silence, a square wave, a click and tones."""
    _check(feature, _hard_waveforms())


@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1e-20, 1e19, 1e34])
def test_magnitudes_have_the_range_of_the_waveforms(scale: float) -> None:
    """librosa's magnitudes of clips whose squares float32 cannot hold, and the neighbours' unchanged."""
    waveforms = _hard_waveforms()[:4]
    alone = STFT.kernel(RATE)(waveforms)
    waveforms[1] *= np.float32(scale)
    values, expected = STFT.kernel(RATE)(waveforms), _reference(STFT, waveforms[1])
    np.testing.assert_allclose(values[1], expected, rtol=0, atol=1e-5 * expected.max())
    np.testing.assert_array_equal(np.delete(values, 1, axis=0), np.delete(alone, 1, axis=0))


@pytest.mark.parametrize("feature", [MFCC, ALL[4]])
def test_powers_beyond_the_range_are_not_hidden(feature: Feature) -> None:
    """Decibels of powers that float32 cannot hold are not finite, so that no store takes them; others are."""
    waveforms = _hard_waveforms()[:3]
    waveforms[1] *= np.float32(1e20)
    finite = np.isfinite(feature.kernel(RATE)(waveforms))
    assert finite[[0, 2]].all()
    assert not finite[1].any()


@each_feature
def test_real_clips_equal_librosa(feature: Feature, real_archive: Path) -> None:
    """librosa's values on every 20th of the real clips."""
    with zipfile.ZipFile(real_archive) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".wav"))[::20]
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
    values = Stft(**{**CUT, "n_fft": n_fft, "win_length": n_fft}).kernel(RATE)(waveforms)
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


def test_decibels_are_those_of_the_logarithm() -> None:
    """10 log10 to 1e-5 dB over all powers from 1e-10 to 1e10, and at the edges of its series."""
    powers = np.concatenate([np.logspace(-10, 10, 100_001), 2.0 ** np.arange(-33, 33) * np.sqrt(0.5)])
    expected = 10 * np.log10(powers.astype(np.float32).astype(np.float64))
    np.testing.assert_allclose(to_decibels(powers.astype(np.float32)), expected, rtol=0, atol=1e-5)


def test_the_bytes_do_not_depend_on_the_processor(tmp_path: Path) -> None:
    """With NumPy's code for newer processors switched off, every feature has the same bytes."""
    umath: Any = np._core._multiarray_umath  # type: ignore[attr-defined]
    here = [name for name in umath.__cpu_dispatch__ if umath.__cpu_features__[name]]
    if not here:
        pytest.skip("NumPy chooses no code by this processor")
    code = """if True:
        import sys
        import numpy as np
        from tests.features.test_features import ALL, RATE, _hard_waveforms
        values = {str(n): feature.kernel(RATE)(_hard_waveforms()) for n, feature in enumerate(ALL)}
        np.savez(sys.argv[1], **values)
    """
    for name, disabled in (("new", ""), ("old", " ".join(here))):
        env = {**os.environ, "NPY_DISABLE_CPU_FEATURES": disabled}
        command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / f"{name}.npz")]
        subprocess.run(command, cwd=ROOT, env=env, check=True)
    new, old = np.load(tmp_path / "new.npz"), np.load(tmp_path / "old.npz")
    assert len(new.files) == len(ALL)
    for name in new.files:
        assert new[name].tobytes() == old[name].tobytes(), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"win_length": 513}, "win_length no greater than n_fft, has 513 and 512"),
        ({"fmin": 50.0, "fmax": 50.0}, "fmax above fmin, has 50 and 50"),
        ({"n_mfcc": 129}, "n_mfcc no greater than n_mels"),
    ],
)
def test_parameters_that_contradict_each_other_are_refused(change: dict[str, Any], message: str) -> None:
    """A window longer than its frame, an empty band and more cepstra than bands are errors."""
    with pytest.raises(ValidationError, match=message):
        Mfcc(**{**MEL, "n_mfcc": 39, **change})


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
                assert roots <= {"numpy", "scipy", "librosa"}


def test_every_feature_is_found_by_its_files_name() -> None:
    """Each file of the folder is a feature that its name leads to."""
    names = [path.stem for path in (ROOT / "pipeline" / "features").glob("[a-z]*.py")]
    assert names
    for name in names:
        assert issubclass(Feature.named(name), Feature)
