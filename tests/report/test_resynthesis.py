"""Features made audible."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline import params
from pipeline.features import Feature
from pipeline.report import resynthesis
from tests.features import own
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
    return _stored({**params.load()["features"][name], **changes})


def _stored(section: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return a feature's function, and the parameters that its store would have."""
    feature = Feature.restore(section)
    return feature.kernel(RATE), {"audio": {"sample_rate": RATE}, "feature": feature.description("x", RATE)}


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize(("name", "apart"), [("stft", 0.15), ("logmel", 0.4), ("mfcc", 0.4)])
def test_the_waveform_has_the_feature(
    clip: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch, name: str, apart: float, center: bool
) -> None:
    """The mel bands of the rebuilt waveform are those of the clip, at the same time."""
    monkeypatch.chdir(ROOT)
    kernel, stored = _feature(name, center=center)
    _check(clip, kernel, stored, apart)


def test_a_linear_mel_feature_becomes_audible_as_it_declares(
    clip: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mel feature on a linear scale is not taken for decibels: its waveform has the clip's spectrum."""
    monkeypatch.chdir(ROOT)
    with own.installed():
        kernel, stored = _stored(own.LINEAR_MEL)
        _check(clip, kernel, stored, 0.4)


def _check(clip: NDArray[np.float32], kernel: Any, stored: dict[str, Any], apart: float) -> None:
    """Assert that the rebuilt waveform is as close as `apart` to the clip, and farther if it is shifted."""
    rebuilt = resynthesis.waveform(kernel(clip[None])[0], stored, samples=SAMPLES, iterations=32, seed=0)
    assert rebuilt is not None
    assert rebuilt.dtype == np.float32
    assert rebuilt.shape == (SAMPLES,)
    assert np.abs(rebuilt).max() <= 1
    mel, _ = _feature("logmel", center=True)

    def distance(waveform: NDArray[np.float32]) -> float:
        # If frames are not centred, half a frame at each end is in no frame.
        had, has = (10 ** (mel(samples[None])[0][4:-4] / 20) for samples in (clip, waveform))
        return float(np.linalg.norm(has - had) / np.linalg.norm(had))

    assert distance(rebuilt) < apart
    assert distance(np.roll(rebuilt, 256)) > distance(rebuilt)
    assert distance(np.roll(rebuilt, -256)) > distance(rebuilt)


def test_the_seed_decides_the_waveform(clip: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same seed gives the same waveform, and another seed another one."""
    monkeypatch.chdir(ROOT)
    kernel, stored = _feature("stft")
    one, two, other = (
        resynthesis.waveform(kernel(clip[None])[0], stored, samples=SAMPLES, iterations=2, seed=seed)
        for seed in (0, 0, 1)
    )
    assert one is not None
    assert other is not None
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)


def test_a_feature_without_a_spectrum_has_no_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    """None is returned for a feature that declares no spectrum, and for a single frame."""
    monkeypatch.chdir(ROOT)
    with own.installed():
        _, stored = _stored(own.BARE)
        assert resynthesis.waveform(np.ones((9, 3)), stored, samples=SAMPLES, iterations=2, seed=0) is None
    _, stored = _feature("stft")
    assert resynthesis.waveform(np.ones((1, 257)), stored, samples=600, iterations=2, seed=0) is None


def test_the_bytes_do_not_depend_on_the_processor(clip: NDArray[np.float32], tmp_path: Path) -> None:
    """The sound of each feature is the same file without the instructions of newer processors."""
    code = """if True:
        import sys
        from pathlib import Path
        import numpy as np
        from pipeline.report import resynthesis
        from pipeline.report.sounds import flac
        from tests.report.test_resynthesis import RATE, SAMPLES, _feature
        folder, clip = Path(sys.argv[1]), np.load(sys.argv[2])
        folder.mkdir()
        for name in ("stft", "logmel", "mfcc"):
            kernel, stored = _feature(name)
            values = kernel(clip[None])[0]
            rebuilt = resynthesis.waveform(values, stored, samples=SAMPLES, iterations=32, seed=0)
            np.save(folder / f"{name}.npy", rebuilt)
            (folder / f"{name}.flac").write_bytes(flac(rebuilt, RATE))
    """
    np.save(tmp_path / "clip.npy", clip)
    for folder, env in (("new", {}), ("old", _old_processor())):
        paths = str(tmp_path / folder), str(tmp_path / "clip.npy")
        command = [sys.executable, "-W", "ignore", "-c", code, *paths]
        subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, check=True)
    for path in (tmp_path / "new").iterdir():
        assert path.read_bytes() == (tmp_path / "old" / path.name).read_bytes(), path.name


def _old_processor() -> dict[str, str]:
    """Return the environment in which NumPy, OpenBLAS and glibc use no newer instructions, and one thread."""
    umath: Any = np._core._multiarray_umath  # type: ignore[attr-defined]
    here = [name for name in umath.__cpu_dispatch__ if umath.__cpu_features__[name]]
    return {
        "NPY_DISABLE_CPU_FEATURES": " ".join(here),
        "OPENBLAS_CORETYPE": "Nehalem",
        "OPENBLAS_NUM_THREADS": "1",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX2,-FMA",
    }
