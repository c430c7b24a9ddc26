import hashlib
import random
import re
import resource
import zipfile
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from pipeline.corpus import recordings
from pipeline.corpus.audio import Audio, Recorded, Undecodable, decode_whole
from pipeline.corpus.audio import decode as decode_files
from tests.damage import damaged_binary, fuzz
from tests.project import Record

AUDIO = Audio(sample_rate=22050, duration=0.8, padding="edge", max_rejects=0, truncated="reject")


def decode(path: Path, audio: Audio) -> tuple[NDArray[np.float32], Recorded]:
    """Decode one file, which must be decodable."""
    waveforms, (result,) = decode_files([path.read_bytes()], **_arguments(audio))
    assert result.recorded is not None
    assert result.problem is None
    return waveforms[0], result.recorded


def _arguments(audio: Audio) -> dict[str, Any]:
    return audio.model_dump(exclude={"max_rejects", "truncated"})


def _reference(path: Path, audio: Audio) -> NDArray[np.float32]:
    y, _ = librosa.load(path, sr=audio.sample_rate, duration=audio.duration)
    fixed: NDArray[np.float32] = librosa.util.fix_length(y, size=audio.samples, mode=audio.padding)
    return fixed


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.aiff"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("seconds", [0.3, 0.8, 1.7])
def test_any_format_equals_librosa(record: Record, name: str, channels: int, seconds: float) -> None:
    """Each value equals librosa's for each format, one and two channels, and short and long clips."""
    path = record(name, rate=16000, samples=int(16000 * seconds), channels=channels)
    waveform = decode(path, AUDIO)[0]
    assert waveform.dtype == np.float32
    np.testing.assert_array_equal(waveform, _reference(path, AUDIO))


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("target", [8000, 16000, 22050])
def test_any_rate_equals_librosa(record: Record, rate: int, target: int) -> None:
    """Each value and the length equal librosa's, from any sample rate to any other."""
    audio = AUDIO.model_copy(update={"sample_rate": target, "duration": 0.37})
    path = record("a.wav", rate=rate, samples=int(rate * 0.3337), channels=3)
    np.testing.assert_array_equal(decode(path, audio)[0], _reference(path, audio))


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "FLOAT", "ULAW"])
def test_any_encoding_equals_librosa(record: Record, subtype: str) -> None:
    """Each value equals librosa's for 8, 24 and 32 bits and for u-law, padded with zeros."""
    audio = AUDIO.model_copy(update={"padding": "constant"})
    path = record("a.wav", samples=5000, subtype=subtype)
    np.testing.assert_array_equal(decode(path, audio)[0], _reference(path, audio))


def test_real_clips_equal_librosa(real_archive: Path, tmp_path: Path) -> None:
    """Each value of every 20th real clip equals librosa's."""
    with zipfile.ZipFile(real_archive) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".wav"))[::20]
        for name in names:
            path = Path(archive.extract(name, tmp_path))
            np.testing.assert_array_equal(decode(path, AUDIO)[0], _reference(path, AUDIO))
    assert len(names) > 160


@pytest.mark.parametrize(("subtype", "dtype"), [("PCM_16", "int16"), ("PCM_24", "float32")])
def test_properties_are_those_of_the_file(record: Record, subtype: str, dtype: str) -> None:
    """Sample rate, length and md5 are those of the whole file, whatever duration is asked for."""
    path = record("a.wav", rate=16000, samples=100_000, channels=2, subtype=subtype)
    samples, _ = soundfile.read(path, dtype=dtype)
    expected = (16000, 100_000, hashlib.md5(samples.tobytes(), usedforsecurity=False).hexdigest(), None)
    for duration in (0.1, 0.8, 20.0):
        assert decode(path, AUDIO.model_copy(update={"duration": duration}))[1] == expected


def test_an_exact_copy_in_another_format_has_the_same_md5(record: Record, tmp_path: Path) -> None:
    """The same 16-bit samples in WAV and in FLAC have the same md5."""
    wav = record("a.wav", samples=100_000)
    soundfile.write(tmp_path / "a.flac", soundfile.read(wav, dtype="int16")[0], 16000)
    assert decode(wav, AUDIO)[1] == decode(tmp_path / "a.flac", AUDIO)[1]


def test_a_waveform_does_not_depend_on_the_other_files(record: Record) -> None:
    """Files decoded together give the same waveforms as one by one. One of them is not audio."""
    files = [
        record(f"{rate}-{samples}-{channels}.{suffix}", rate=rate, samples=samples, channels=channels)
        for rate in (8000, 16000, 44100)
        for samples in (5000, 40000)
        for channels, suffix in ((1, "wav"), (2, "flac"))
    ]
    contents = [file.read_bytes() for file in files]
    contents.insert(3, b"no audio")
    waveforms, results = decode_files(contents, **_arguments(AUDIO))
    assert results.pop(3).problem is not None
    assert not waveforms[3].any()
    for file, waveform, result in zip(files, np.delete(waveforms, 3, axis=0), results, strict=True):
        expected_waveform, expected = decode(file, AUDIO)
        np.testing.assert_array_equal(waveform, expected_waveform)
        assert result.recorded == expected


def test_an_undecodable_file_gives_the_reason(tmp_path: Path, record: Record) -> None:
    """Text, an empty file, no samples, NaN and samples near float32's limit are problems with a reason."""
    (tmp_path / "text.wav").write_text("no audio")
    (tmp_path / "empty.wav").touch()
    cut = record("cut.flac", samples=16000)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    record("silent.wav", samples=0)
    soundfile.write(tmp_path / "nan.wav", np.array([0.1, np.nan]), 16000, subtype="FLOAT")
    huge = np.full(2000, 3e38, np.float32) * np.sign(np.sin(np.arange(2000)))
    soundfile.write(tmp_path / "huge.wav", huge, 16000, subtype="FLOAT")
    for name, reason in {
        "text.wav": "is in no known format, expected WAV, FLAC, OGG, MP3 or another that libsndfile reads",
        "empty.wav": "is empty",
        "cut.flac": "is damaged, or in an unknown form of its format (flac decoder lost sync)",
        "silent.wav": "contains no samples",
        "nan.wav": "not finite",
        "huge.wav": "too large to resample",
    }.items():
        _, (result,) = decode_files([(tmp_path / name).read_bytes()], **_arguments(AUDIO))
        assert result.recorded is None
        assert reason in str(result.problem)


@pytest.mark.parametrize(("rate", "duration", "samples"), [(22050, 0.8, 17640), (22050, 0.29, 6394)])
def test_the_length_is_the_nearest_number_of_samples(rate: int, duration: float, samples: int) -> None:
    """The length of a waveform is sample rate times duration, rounded to the nearest."""
    assert AUDIO.model_copy(update={"sample_rate": rate, "duration": duration}).samples == samples


@pytest.mark.parametrize("name", ["a.mp3", "a.ogg", "a.flac", "a.wav"])
def test_a_long_file_is_read_as_if_at_once(record: Record, name: str) -> None:
    """The md5 does not depend on the duration, and a whole recording equals librosa's, read at once."""
    path = record(name, samples=200_000)
    results = {
        decode(path, AUDIO.model_copy(update={"duration": seconds}))[1] for seconds in (0.1, 5.0, 20.0)
    }
    assert len(results) == 1
    expected, _ = librosa.load(path, sr=None)
    np.testing.assert_array_equal(decode_whole(path.read_bytes(), sample_rate=16000), expected)


def test_a_file_that_is_cut_short_is_a_reject_or_taken_as_it_is(record: Record) -> None:
    """With `accept`, it is as long as what is left of it, and the result says what it lacks."""
    content = record("a.wav").read_bytes()[:-16000]
    lacking = "is cut short: its header promises 32,000 bytes of sound, it has 16,000"
    arguments = _arguments(AUDIO)
    waveforms, (result,) = decode_files([content], **arguments)
    assert (result.recorded, result.problem) == (None, lacking)
    assert not waveforms.any()
    waveforms, (result,) = decode_files([content], **arguments, truncated="accept")
    assert result.problem is None
    assert result.recorded is not None
    assert (result.recorded.samples, result.recorded.lacking) == (8000, lacking)
    assert waveforms.any()
    with pytest.raises(Undecodable, match="is cut short"):
        decode_whole(content, sample_rate=16000)


def test_a_flac_that_is_cut_short_is_always_a_reject(record: Record) -> None:
    """At whatever byte it ends, also between two of its frames."""
    content = record("a.flac").read_bytes()
    frames = [match.start() for match in re.finditer(b"\xff\xf8", content)]
    for end in (*frames[1:], len(content) // 2, len(content) - 1):
        for truncated in ("reject", "accept"):
            _, (result,) = decode_files([content[:end]], **_arguments(AUDIO), truncated=truncated)
            assert result.problem is not None


@pytest.mark.parametrize(
    ("rate", "good"),
    [
        *((rate, False) for rate in (0, 1, 10, 999, 1_000_001, 2**31 - 1, 2**32 - 1)),
        *((rate, True) for rate in (1000, 4000, 384_000, 1_000_000)),
    ],
)
def test_an_absurd_sample_rate_is_a_reject(record: Record, rate: int, good: bool) -> None:
    """A header's rate must be from 1 kHz to 1 MHz; another one is named."""
    wav = record("a.wav", samples=3000).read_bytes()
    content = wav[:24] + rate.to_bytes(4, "little") + wav[28:]
    _, (result,) = decode_files([content], **_arguments(AUDIO))
    assert (result.recorded is not None) == good
    if 0 < rate < 2**31 and not good:
        assert result.problem == f"has a sample rate of {rate:,} Hz, expected 1,000 to 1,000,000"


@pytest.mark.filterwarnings("error")  # an exception that libsndfile cannot pass on is a warning
@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.aiff", "a.au", "a.caf", "a.w64"])
@fuzz(60)
def test_no_damage_raises_or_takes_memory(
    record: Record, tmp_path: Path, name: str, generator: random.Random
) -> None:
    """However a file is damaged, it is decoded or a reject, and other files are decoded as before.

    Bytes are cut off, removed, repeated and changed, often in the header, and replaced by huge numbers.
    """
    good = record(name, samples=3000, channels=2).read_bytes()
    expected, _ = decode_files([good], **_arguments(AUDIO))
    damaged = damaged_binary(good, generator)
    for truncated in ("reject", "accept"):
        waveforms, (result, _) = decode_files([damaged, good], **_arguments(AUDIO), truncated=truncated)
        assert np.isfinite(waveforms[0]).all()
        assert (result.recorded is None) == (result.problem is not None)
        np.testing.assert_array_equal(waveforms[1], expected[0])
    (tmp_path / "damaged.wav").write_bytes(damaged)
    assert len(recordings.pieces(tmp_path, "damaged.wav", 0.1)) < 1000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 3 << 20  # KiB
