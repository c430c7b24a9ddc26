"""Features: equal to librosa, independent of the batch and the processor, and as declared."""

import ast
import itertools
import os
import re
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from pydantic import ValidationError
from ruamel.yaml import YAML

from pipeline.corpus.audio import decode
from pipeline.errors import PipelineError
from pipeline.features import Feature, NoLayerError, Spectral, from_decibels, to_decibels
from pipeline.features.logmel import LogMel
from pipeline.features.mfcc import MFCC
from pipeline.features.stft import STFT
from tests.features import own
from tests.features.make import (
    ALL,
    CUT,
    DEFAULT_MFCC,
    DEFAULT_STFT,
    MEL,
    RATE,
    SAMPLES,
    Waveforms,
    hard_waveforms,
)
from tests.project import ROOT

pytestmark = pytest.mark.filterwarnings("ignore:Empty filters detected")

each_feature = pytest.mark.parametrize("feature", ALL, ids=lambda feature: f"{feature!r}")


def _reference(feature: Feature, y: Waveforms) -> NDArray[np.float32]:
    settings = feature.model_dump(exclude={"dtype", "kind"})
    match feature:
        case STFT():
            values = np.abs(librosa.stft(y, **settings))
        case LogMel():
            values = librosa.power_to_db(librosa.feature.melspectrogram(y=y, sr=RATE, **settings))
        case _:
            values = librosa.feature.mfcc(y=y, sr=RATE, **settings)
    expected: NDArray[np.float32] = values.T
    return expected


def _check(feature: Feature, waveforms: Waveforms) -> None:
    """Assert that each row differs from librosa's by at most 1e-5 of its largest value, cepstra by 1e-3."""
    for y, row in zip(waveforms, feature.kernel(RATE)(waveforms), strict=True):
        expected = _reference(feature, y)
        tolerance = 1e-3 if isinstance(feature, MFCC) else max(1e-5 * np.abs(expected).max(), 1e-30)
        np.testing.assert_allclose(row, expected, rtol=0, atol=tolerance)


@each_feature
def test_hard_clips_equal_librosa(feature: Feature) -> None:
    """Values are librosa's for noise, silence, a square wave, a click and tones."""
    _check(feature, hard_waveforms())


@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1e-20, 1e19, 1e34])
def test_magnitudes_have_the_range_of_the_waveforms(scale: float) -> None:
    """Magnitudes are librosa's if float32 cannot represent their squares; other clips are unchanged."""
    waveforms = hard_waveforms()[:4]
    alone = DEFAULT_STFT.kernel(RATE)(waveforms)
    waveforms[1] *= np.float32(scale)
    values, expected = DEFAULT_STFT.kernel(RATE)(waveforms), _reference(DEFAULT_STFT, waveforms[1])
    np.testing.assert_allclose(values[1], expected, rtol=0, atol=1e-5 * expected.max())
    np.testing.assert_array_equal(np.delete(values, 1, axis=0), np.delete(alone, 1, axis=0))


@pytest.mark.parametrize("feature", [DEFAULT_MFCC, ALL[4]])
def test_powers_beyond_the_range_are_not_hidden(feature: Feature) -> None:
    """If float32 cannot represent a power, the clip is not finite, and the writer refuses it."""
    waveforms = hard_waveforms()[:3]
    waveforms[1] *= np.float32(1e20)
    finite = np.isfinite(feature.kernel(RATE)(waveforms))
    assert finite[[0, 2]].all()
    assert not finite[1].any()


@each_feature
def test_real_clips_equal_librosa(feature: Feature, real_archive: Path) -> None:
    """Values are librosa's on every 20th of the real clips."""
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
    """Magnitudes are those of tf.signal.stft, to 1e-5 of the largest, even if n_fft is no power of two."""
    import tensorflow as tf

    waveforms = hard_waveforms()
    expected = np.abs(tf.signal.stft(waveforms, n_fft, 128, fft_length=n_fft).numpy())
    largest = np.maximum(expected.max(axis=(1, 2), keepdims=True), 1e-30)
    values = STFT(kind="stft", **{**CUT, "n_fft": n_fft, "win_length": n_fft}).kernel(RATE)(waveforms)
    np.testing.assert_array_less(np.abs(values - expected) / largest, 1e-5)


@each_feature
def test_a_clip_does_not_depend_on_its_neighbours(feature: Feature) -> None:
    """A clip has the same bytes whether it is computed alone, or with others in any order."""
    waveforms = hard_waveforms()
    together = feature.kernel(RATE)(waveforms)
    order = np.random.default_rng(1).permutation(len(waveforms))
    np.testing.assert_array_equal(feature.kernel(RATE)(waveforms[order]), together[order])
    for number in range(len(waveforms)):
        np.testing.assert_array_equal(feature.kernel(RATE)(waveforms[number:][:1])[0], together[number])


@each_feature
@pytest.mark.parametrize("samples", [1024, 1025, 1500, 17640])
def test_the_shape_is_the_one_announced(feature: Feature, samples: int) -> None:
    """The kernel returns float32 of the shape that `shape` announces."""
    values = feature.kernel(RATE)(np.ones((3, samples), np.float32))
    assert values.shape == (3, *feature.shape(samples))
    assert values.dtype == np.float32


def test_decibels_are_those_of_the_logarithm() -> None:
    """`to_decibels` is 10 log10 to 1e-5 dB for powers from 1e-10 to 1e10, and at the edges of its series."""
    powers = np.concatenate([np.logspace(-10, 10, 100_001), 2.0 ** np.arange(-33, 33) * np.sqrt(0.5)])
    expected = 10 * np.log10(powers.astype(np.float32).astype(np.float64))
    np.testing.assert_allclose(to_decibels(powers.astype(np.float32)), expected, rtol=0, atol=1e-5)


def test_powers_are_those_of_the_decibels() -> None:
    """`from_decibels` is 10 ** (x / 10) to 1e-8 of it, for all powers of float32 and at its series' ends."""
    ends = 10 * np.log10(2) * (np.arange(-126, 128) + 0.5)
    decibels = np.concatenate([np.linspace(-380, 385, 100_001), ends]).astype(np.float32)
    expected = np.power(10, decibels.astype(np.float64) / 10)
    np.testing.assert_allclose(from_decibels(decibels), expected, rtol=1e-8, atol=0)


@pytest.mark.parametrize("feature", ALL[:3], ids=lambda feature: f"{feature!r}")
def test_a_spectrum_leads_back_to_the_waveform(feature: Spectral) -> None:
    """The inverse transform gives the waveform back, to 1e-12 more than a frame from its ends."""
    waveforms = hard_waveforms()[:3]
    spectra = feature.spectra("float64")
    inverse = spectra.inverse(spectra(waveforms))
    samples = inverse.shape[1]
    padding = feature.n_fft // 2 if feature.center else 0
    assert samples == (feature.frames(SAMPLES) - 1) * feature.hop_length + feature.n_fft - 2 * padding
    inner = slice(feature.n_fft, samples - feature.n_fft)
    np.testing.assert_allclose(inverse[:, inner], waveforms[:, inner], rtol=0, atol=1e-12)


def test_the_spectrum_of_mel_bands_has_these_bands() -> None:
    """The bands of the rebuilt spectrum differ by 0.5 dB at most in noise, and a bin in no band is 0."""
    feature = ALL[4]
    assert isinstance(feature, LogMel)
    values = feature.kernel(RATE)(hard_waveforms()[:1])[0]
    magnitudes = feature.spectrum(values, RATE).magnitudes
    filters = feature.filters(RATE)
    np.testing.assert_allclose(to_decibels(filters @ np.square(magnitudes)).T, values, rtol=0, atol=0.5)
    outside = filters.sum(axis=0) == 0
    assert outside.any()
    assert not magnitudes[outside].any()


def test_the_bytes_do_not_depend_on_the_processor(tmp_path: Path) -> None:
    """With NumPy's code for newer processors disabled, every feature has the same bytes."""
    umath: Any = np._core._multiarray_umath  # type: ignore[attr-defined]
    here = [name for name in umath.__cpu_dispatch__ if umath.__cpu_features__[name]]
    if not here:
        pytest.skip("NumPy chooses no code by this processor")
    code = """if True:
        import sys
        import numpy as np
        from tests.features.make import ALL, RATE, hard_waveforms
        values = {str(n): feature.kernel(RATE)(hard_waveforms()) for n, feature in enumerate(ALL)}
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
        MFCC(kind="mfcc", **{**MEL, "n_mfcc": 39, **change})


def test_the_default_shapes() -> None:
    """0.8 s at 22,050 Hz give 134 frames of 257 bins, and 138 of 39."""
    assert DEFAULT_STFT.shape(SAMPLES) == (134, 257)
    assert DEFAULT_MFCC.shape(SAMPLES) == (138, 39)


def test_a_clip_shorter_than_a_frame_has_no_frames() -> None:
    """A clip with fewer samples than n_fft has no frame, unless it is padded."""
    assert DEFAULT_STFT.shape(511)[0] == 0


def test_features_know_no_file_and_no_store() -> None:
    """Features import NumPy, SciPy, librosa, Keras and what they share, and nothing that reads files."""
    for path in (ROOT / "pipeline" / "features").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("pipeline"):
                names = {"errors", "features", "needs", "params"}
                assert node.module in {"pipeline", *(f"pipeline.{name}" for name in names)}
            elif isinstance(node, ast.Import):
                roots = {alias.name.partition(".")[0] for alias in node.names}
                assert roots <= {"numpy", "scipy", "librosa", "keras"}


def test_empty_bands_are_those_without_a_weight() -> None:
    """The count agrees with librosa's weights for any rate, frame and range. Rounding makes no weight."""
    checked = 0
    for rate, n_fft, n_mels, fmin, fmax in itertools.product(
        (8000, 16000, 22050, 48000),
        (63, 256, 400, 2048),
        (1, 20, 40, 128, 300),
        (0.0, 60.0, 1000.0),
        (None, 3800.0),
    ):
        cut = {**MEL, "n_fft": n_fft, "win_length": n_fft, "n_mels": n_mels, "fmin": fmin, "fmax": fmax}
        feature = LogMel(kind="logmel", **cut)
        weights = librosa.filters.mel(
            sr=rate, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax, norm=None, dtype=np.float64
        )
        empty = int((weights.max(axis=1) < 1e-6).sum())
        problems = feature.problems(rate, rate)
        assert [f"has empty bands: {empty} of its {n_mels} mel bands" in problem for problem in problems] == (
            [True] if empty else []
        )
        checked += empty > 0
    assert checked > 100


@each_feature
def test_the_memory_of_a_kernel_is_at_least_what_is_said(feature: Feature) -> None:
    """A kernel allocates at least `memory` at its peak, and at most five times as much."""
    waveforms, kernel = hard_waveforms(), feature.kernel(RATE)
    tracemalloc.start()
    kernel(waveforms)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 1 < peak / (len(waveforms) * feature.memory(SAMPLES)) < 5


def test_every_feature_is_found_by_its_name() -> None:
    """The name of each file leads to its class, and the name of anything else to a message."""
    names = [path.stem for path in (ROOT / "pipeline" / "features").glob("[a-z]*.py")]
    assert names
    for name in names:
        assert issubclass(Feature.by_name(name), Feature)
    assert [Feature.by_name(name).__name__ for name in ("logmel", "mfcc", "stft")] == [
        "LogMel",
        "MFCC",
        "STFT",
    ]
    for name in ("cqt", "a.b", ""):
        with pytest.raises(
            PipelineError, match=r"has no code: expected pipeline/features/.*\.py with a class"
        ):
            Feature.by_name(name)


def test_a_feature_declares_what_its_values_are() -> None:
    """The declaration, as stores contain it: scale, axis, and the times of frames."""
    assert DEFAULT_STFT.declaration(RATE) == {
        "scale": "magnitude",
        "axis": {"kind": "hertz", "low": 0, "high": RATE / 2},
        "frame_times": {"first": 256 / RATE, "step": 128 / RATE},
    }
    assert DEFAULT_MFCC.declaration(RATE) == {
        "scale": "decibel",
        "axis": {"kind": "cepstrum", "low": 0, "high": 38},
        "frame_times": {"first": 0, "step": 128 / RATE},
    }
    with own.installed():
        bare = Feature.restore(own.BARE)
        assert bare.declaration(RATE) == {"scale": None, "axis": None, "frame_times": None}
        axis = Feature.restore({**own.LINEAR_MEL, "fmax": None}).axis(RATE)
        assert axis == ("mel", 100.0, RATE / 2)


# ----------------------------------------------------------------------------------------- the layer


def _worst(feature: Feature, rate: int, waveforms: Waveforms) -> float:
    """Return how far the layer is from the kernel at most: as a share of the bound, 1 at the bound.

    The bound is 1e-4 of a row's largest value, and 2e-3 for cepstra. Values of float16 are rounded, and those
    on the edge between two numbers may be rounded to the other one.
    """
    layer = feature.layer(rate, waveforms.shape[1])
    worst = 0.0
    for start in range(0, len(waveforms), 64):
        clips = waveforms[start : start + 64]
        stored = feature.kernel(rate)(clips).astype(feature.dtype).astype(np.float32)
        largest = np.abs(stored).max(axis=(1, 2))
        bound = np.full(len(clips), 2e-3) if isinstance(feature, MFCC) else np.maximum(1e-4 * largest, 1e-30)
        if feature.dtype == "float16":
            bound = np.maximum(bound, np.spacing(largest.astype(np.float16)).astype(np.float32))
        apart = np.abs(layer.predict(clips, batch_size=64, verbose=0) - stored).max(axis=(1, 2))
        worst = max(worst, float((apart / bound).max()))
    return worst


@pytest.mark.tensorflow
@each_feature
def test_the_layer_equals_the_kernel_on_hard_clips(feature: Feature) -> None:
    """The Keras layer computes what the store has, for noise, silence, a square wave, a click and tones.

    In single precision, bands far below a pure tone near half the sample rate are up to 0.05 dB off.
    """
    assert _worst(feature, RATE, np.delete(hard_waveforms(), 23, axis=0)) <= 1
    assert _worst(feature, RATE, hard_waveforms()[23:24]) <= 5


def _variants() -> dict[str, Feature]:
    """Return the features of params.yaml, and others that differ in each parameter."""
    sections = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text("utf-8"))["features"]
    changes: dict[str, dict[str, Any]] = {
        "stft hamming, odd n_fft": {"window": "hamming", "n_fft": 401, "win_length": 321, "hop_length": 97},
        "stft blackman": {"window": "blackman", "center": True, "hop_length": 160},
        "stft boxcar": {"window": "boxcar", "n_fft": 1024},
        "stft float16": {"dtype": "float16"},
        "logmel blackman": {"window": "blackman", "center": False, "n_mels": 128, "fmax": None},
        "logmel boxcar": {"window": "boxcar", "n_fft": 1024, "win_length": 1024, "n_mels": 80},
        "logmel float16": {"dtype": "float16", "fmin": 300.0},
        "mfcc hamming": {"window": "hamming", "n_mels": 40, "n_mfcc": 13, "center": False},
        "mfcc of all bands": {"n_mfcc": 128, "fmax": 4000.0},
        "mfcc float16": {"dtype": "float16"},
    }
    features = {name: Feature.restore(section) for name, section in sections.items()}
    return features | {
        name: Feature.restore({**sections[name.split()[0]], **change}) for name, change in changes.items()
    }


@pytest.fixture(scope="module")
def real_waveforms(real_archive: Path) -> Waveforms:
    """All real clips, at 16 kHz."""
    with zipfile.ZipFile(real_archive) as archive:
        names = [name for name in archive.namelist() if re.fullmatch(r"[^_][^/]*/\w+/\w+\.wav", name)]
        files = [archive.read(name) for name in names]
    assert len(files) == 3276
    return decode(files, sample_rate=16000, duration=1.0, padding="edge")[0]


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", list(_variants()))
def test_the_layer_equals_the_kernel_on_real_clips(name: str, real_waveforms: Waveforms) -> None:
    """So it does for every real clip and feature of params.yaml, and with other parameters for every 8th."""
    feature = _variants()[name]
    is_variant = " " in name
    assert _worst(feature, 16000, real_waveforms[::8] if is_variant else real_waveforms) <= 1


@pytest.mark.tensorflow
def test_a_feature_without_a_graph_says_so() -> None:
    """A feature of the user's own that has only a kernel has no layer, and the message says what to write."""
    with (
        own.installed(),
        pytest.raises(NoLayerError, match=r"implement `graph` in pipeline/features/bare\.py"),
    ):
        own.Bare(kind="bare", parts=9, dtype="float32").layer(16000, 16000)
