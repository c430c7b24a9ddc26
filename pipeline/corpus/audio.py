"""Turn audio files into waveforms: decode, resample, and cut or pad."""

import hashlib
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from pydantic import Field

from pipeline.corpus.headers import SAMPLE_RATES, Truncated, cut_short
from pipeline.corpus.stream import FRAMES_AT_A_TIME, UNKNOWN_LENGTH, Content, Stream
from pipeline.params import Section

TOO_LARGE = "contains samples too large to resample"
# libsndfile's number for a file that it does not recognise.
UNRECOGNISED = 1

Samples = NDArray[np.float32]


class Sound(Section):
    """The sample rate, length and padding of every waveform."""

    sample_rate: int = Field(ge=1000, le=768_000)  # Hz
    duration: float = Field(ge=0.001, le=3600)  # seconds
    padding: Literal["edge", "constant"]  # how shorter recordings are padded

    @property
    def samples(self) -> int:
        """The number of samples in every waveform."""
        return round(self.sample_rate * self.duration)


class Audio(Sound):
    """The section `audio`: the waveforms, and which clips, and how many, may be left out."""

    max_rejects: int = Field(ge=0, le=1_000_000_000)
    truncated: Truncated  # what becomes of a clip whose file is cut short


class Recorded(NamedTuple):
    """A clip as it is in its file, before it is resampled and cut."""

    sample_rate: int  # Hz
    samples: int  # per channel
    md5: str  # of all samples, channels interleaved, as int16 if the file has 16 bits, else as float32
    lacking: str | None = None  # what the file lacks, if it is cut short


class Decoded(NamedTuple):
    """The result for one file: one of the two is None."""

    recorded: Recorded | None = None
    problem: str | None = None  # why the file gives no waveform


class Undecodable(Exception):  # noqa: N818 - a reason, which `decode` returns
    """The reason why a file gives no waveform."""


def decode(
    files: Sequence[bytes],
    *,
    sample_rate: int,
    duration: float,
    padding: Literal["edge", "constant"],
    truncated: Truncated = "reject",
) -> tuple[Samples, list[Decoded]]:
    """Return the waveforms of a few files: their first `duration` seconds, padded if they are shorter.

    Channels are averaged, then resampled with soxr's quality HQ. Each waveform equals, value for value,
    `librosa.util.fix_length(librosa.load(path, sr=sample_rate, duration=duration)[0],
    size=round(sample_rate * duration), mode=padding)`.

    Args:
        files: the files' bytes, in any format that libsndfile reads.
        sample_rate: of the waveforms, in Hz.
        duration: of the waveforms, in seconds.
        padding: `edge` repeats the last sample, `constant` adds zeros.
        truncated: what to do with a file that is cut short, as far as `pipeline.corpus.headers` can tell.

    Returns:
        The waveforms: (files, round(sample_rate * duration)), float32, with full scale at ±1. And for each
        file its properties, or the reason why it cannot be decoded: it cannot be read, is cut short, has a
        sample rate outside `SAMPLE_RATES`, has no samples, or has samples that are not finite or too large to
        resample. Its waveform is then silence.
    """
    length = round(sample_rate * duration)
    waveforms = np.zeros((len(files), length), np.float32)
    results: list[Decoded] = []
    # Recordings of the same rate and length are resampled together.
    heads: dict[tuple[int, int], list[tuple[int, Samples]]] = {}
    for row, file in enumerate(files):
        try:
            head, recorded = _read(file, duration, truncated)
        except Undecodable as reason:
            results.append(Decoded(problem=str(reason)))
        else:
            results.append(Decoded(recorded))
            heads.setdefault((recorded.sample_rate, len(head)), []).append((row, head))
    for (rate, _), group in heads.items():
        rows, recordings = zip(*group, strict=True)
        resampled = _resample(np.stack(recordings, axis=1), rate, sample_rate)
        waveforms[list(rows)] = fix_length(resampled.T, length, padding)
    for row in np.flatnonzero(~np.isfinite(waveforms).all(axis=1)).tolist():
        waveforms[row], results[row] = 0, Decoded(problem=TOO_LARGE)
    return waveforms, results


def decode_whole(file: bytes, *, sample_rate: int) -> Samples:
    """Return the waveform of a whole file, of any length: (samples,), as `decode` does with a long duration.

    Raises Undecodable, also if the file is cut short.
    """
    recording, recorded = _read(file, None, "reject")
    waveform = _resample(recording[:, None], recorded.sample_rate, sample_rate)[:, 0]
    if not np.isfinite(waveform).all():
        raise Undecodable(TOO_LARGE)
    return waveform


def _read(content: bytes, duration: float | None, truncated: Truncated) -> tuple[Samples, Recorded]:
    """Return the first `duration` seconds as mono float32 (samples,), and the file's properties.

    Without a duration, return the whole recording. Raises Undecodable.
    """
    lacking = cut_short(content)
    if lacking and truncated == "reject":
        raise Undecodable(lacking)
    try:
        with Stream(Content(content)) as file:
            rate = file.samplerate
            if rate not in SAMPLE_RATES:
                raise Undecodable(
                    f"has a sample rate of {rate:,} Hz, expected {SAMPLE_RATES[0]:,} to {SAMPLE_RATES[-1]:,}"
                )
            if file.frames >= UNKNOWN_LENGTH:
                raise Undecodable("has a header that does not say how long it is")
            frames = None if duration is None else int(duration * rate)
            if frames == 0:
                raise Undecodable(f"audio.duration is shorter than one sample at {rate} Hz")
            # libsndfile reads int16 samples faster as int16. As floats they are exactly 1/32768 of that.
            is_int16 = file.subtype == "PCM_16"
            dtype = "int16" if is_int16 else "float32"
            blocks: list[Samples] = []
            samples, digest = 0, hashlib.md5(usedforsecurity=False)
            for block in file.parts(max(frames or 0, FRAMES_AT_A_TIME), dtype):
                if not (is_int16 or np.isfinite(block).all()):
                    raise Undecodable("contains samples that are not finite")
                digest.update(block)
                if frames is None or not blocks:
                    blocks.append(block[:frames])
                samples += len(block)
            if file.format == "FLAC" and samples < file.frames:
                raise Undecodable(f"ends after {samples:,} of {file.frames:,} samples")
    except (soundfile.LibsndfileError, OSError) as error:
        raise Undecodable(_reason(content, error)) from None
    if not samples:
        raise Undecodable("contains no samples")
    head = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    if is_int16:
        head = head * np.float32(1 / 32768)
    mono = head if head.ndim == 1 else np.mean(head.T, axis=0)
    return mono, Recorded(rate, samples, digest.hexdigest(), lacking)


def _reason(content: bytes, error: Exception) -> str:
    """Return why libsndfile cannot read a file with this `content`."""
    if not content:
        return "is empty"
    if getattr(error, "code", None) == UNRECOGNISED:
        return "is in no known format, expected WAV, FLAC, OGG, MP3 or another that libsndfile reads"
    text = str(getattr(error, "error_string", error)).removeprefix("Error : ").rstrip(".")
    return f"is damaged, or in an unknown form of its format ({text})"


def _resample(waveforms: Samples, rate: int, target: int) -> Samples:
    """Return `waveforms` (samples, clips), which are at `rate` Hz, at `target` Hz."""
    if rate == target:
        return waveforms
    # soxr takes the clips for channels. That is faster than one call per clip, and gives the same bits.
    resampled: Samples = soxr.resample(waveforms, rate, target, quality="soxr_hq")
    # soxr rounds the length to the nearest number of samples. librosa rounds it up and adds silence.
    length = int(np.ceil(len(waveforms) * (float(target) / rate)))
    return fix_length(resampled.T, length, "constant").T


def fix_length(waveforms: Samples, samples: int, padding: Literal["edge", "constant"]) -> Samples:
    """Return `waveforms` (clips, any length) cut or padded to `samples` samples."""
    missing = max(0, samples - waveforms.shape[1])
    cut = waveforms[:, :samples]
    return np.pad(cut, ((0, 0), (0, missing)), mode=padding) if missing else cut
