import hashlib
import warnings
import zipfile
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from pipeline.corpus.audio import Audio, Undecodable, decode
from tests.conftest import Record

AUDIO = Audio(sample_rate=22050, duration=0.8, padding="edge", max_rejects=0)


def _reference(path: Path, audio: Audio) -> NDArray[np.float32]:
    y, _ = librosa.load(path, sr=audio.sample_rate, duration=audio.duration)
    fixed: NDArray[np.float32] = librosa.util.fix_length(y, size=audio.samples, mode=audio.padding)
    return fixed


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.aiff"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("seconds", [0.3, 0.8, 1.7])
def test_any_format_equals_librosa(record: Record, name: str, channels: int, seconds: float) -> None:
    """Value for value librosa's waveform: each format, one or two channels, shorter and longer clips."""
    path = record(name, rate=16000, samples=int(16000 * seconds), channels=channels)
    waveform = decode(path, AUDIO).waveform
    assert waveform.dtype == np.float32
    np.testing.assert_array_equal(waveform, _reference(path, AUDIO))


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("target", [8000, 16000, 22050])
def test_any_rate_equals_librosa(record: Record, rate: int, target: int) -> None:
    """Value for value librosa's waveform from any rate to any rate, lengths rounded as there."""
    audio = AUDIO.model_copy(update={"sample_rate": target, "duration": 0.37})
    path = record("a.wav", rate=rate, samples=int(rate * 0.3337), channels=3)
    np.testing.assert_array_equal(decode(path, audio).waveform, _reference(path, audio))


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "FLOAT", "ULAW"])
def test_any_encoding_equals_librosa(record: Record, subtype: str) -> None:
    """Value for value librosa's waveform for 8, 24 and 32 bits and for u-law, padded with zeros."""
    audio = AUDIO.model_copy(update={"padding": "constant"})
    path = record("a.wav", samples=5000, subtype=subtype)
    np.testing.assert_array_equal(decode(path, audio).waveform, _reference(path, audio))


def test_real_clips_equal_librosa(real_archive: Path, tmp_path: Path) -> None:
    """Value for value librosa's waveform on every 40th of the real clips."""
    with zipfile.ZipFile(real_archive) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".wav"))[::40]
        for name in names:
            path = Path(archive.extract(name, tmp_path))
            np.testing.assert_array_equal(decode(path, AUDIO).waveform, _reference(path, AUDIO))
    assert len(names) > 80


def test_a_clip_is_described_as_it_was_recorded(record: Record) -> None:
    """Rate, length and md5 are the file's own, of all samples, whatever the parameters ask for."""
    path = record("a.wav", rate=16000, samples=100_000, channels=2)
    samples, _ = soundfile.read(path, dtype="float32")
    expected = (16000, 100_000, hashlib.md5(samples.tobytes(), usedforsecurity=False).hexdigest())
    for duration in (0.1, 0.8, 20.0):
        recording = decode(path, AUDIO.model_copy(update={"duration": duration}))
        assert (recording.sample_rate, recording.samples, recording.md5) == expected


def test_a_broken_clip_says_why(tmp_path: Path, record: Record) -> None:
    """A text, an empty file, no samples, NaN and samples near the limit are undecodable, with a reason."""
    (tmp_path / "text.wav").write_text("no audio")
    (tmp_path / "empty.wav").touch()
    record("silent.wav", samples=0)
    soundfile.write(tmp_path / "nan.wav", np.array([0.1, np.nan]), 16000, subtype="FLOAT")
    huge = np.full(2000, 3e38, np.float32) * np.sign(np.sin(np.arange(2000)))
    soundfile.write(tmp_path / "huge.wav", huge, 16000, subtype="FLOAT")
    for name, reason in {
        "text.wav": "Format not recognised",
        "empty.wav": "Format not recognised",
        "silent.wav": "holds no samples",
        "nan.wav": "not finite",
        "huge.wav": "too large to resample",
    }.items():
        with warnings.catch_warnings(), pytest.raises(Undecodable, match=reason):
            decode(tmp_path / name, AUDIO)


@pytest.mark.parametrize(("rate", "duration", "samples"), [(22050, 0.8, 17640), (22050, 0.29, 6394)])
def test_the_length_is_the_nearest_number_of_samples(rate: int, duration: float, samples: int) -> None:
    """A waveform's length is rate times duration, rounded."""
    assert AUDIO.model_copy(update={"sample_rate": rate, "duration": duration}).samples == samples
