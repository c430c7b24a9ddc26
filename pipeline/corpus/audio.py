"""Files → waveforms: decode, resample, cut or pad."""

import hashlib
import io
from collections.abc import Sequence
from typing import Literal, NamedTuple, Self

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipeline.params import Section

FRAMES_AT_A_TIME = 1 << 16

Samples = NDArray[np.float32]


class Audio(Section):
    """`audio`: what a clip's waveform is."""

    sample_rate: int = Field(gt=0)
    duration: float = Field(gt=0)
    padding: Literal["edge", "constant"]
    max_rejects: int = Field(ge=0)

    @model_validator(mode="after")
    def _at_least_a_sample(self) -> Self:
        if self.samples < 1:
            raise ValueError(
                f"must have at least one sample: sample_rate {self.sample_rate} Hz times duration"
                f" {self.duration:g} s is less"
            )
        return self

    @property
    def samples(self) -> int:
        """Samples of every waveform."""
        return round(self.sample_rate * self.duration)


class Recorded(NamedTuple):
    """What a clip was in its file."""

    sample_rate: int  # Hz
    samples: int  # per channel
    md5: str  # of all samples, channels interleaved: int16 where the file has those, else float32


class Undecodable(Exception):  # noqa: N818 - a verdict on a clip, which the caller counts
    """Why a file gives no waveform."""


def decode(
    files: Sequence[bytes], *, sample_rate: int, duration: float, padding: Literal["edge", "constant"]
) -> tuple[Samples, list[Recorded | str]]:
    """Return the first `duration` seconds of a few files at `sample_rate`, padded if shorter.

    Channels are averaged, then resampled by soxr's HQ. Each equals, value for value,
    `librosa.util.fix_length(librosa.load(path, sr=sample_rate, duration=duration)[0],
    size=round(sample_rate * duration), mode=padding)`.

    Args:
        files: the files' bytes, in any format that libsndfile reads.
        sample_rate: Hz.
        duration: seconds.
        padding: `edge` repeats the last sample, `constant` adds zeros.

    Returns:
        waveforms (files, round(sample_rate * duration)), float32, full scale at ±1; and for each what it
        was in the file, or why it cannot be decoded: it cannot be read, holds no samples, or some that are
        not finite. Its waveform is silence then.
    """
    length = round(sample_rate * duration)
    waveforms = np.zeros((len(files), length), np.float32)
    verdicts: list[Recorded | str] = []
    heads: dict[tuple[int, int], list[tuple[int, Samples]]] = {}
    for number, file in enumerate(files):
        try:
            head, recorded = _read(file, duration)
        except Undecodable as reason:
            verdicts.append(str(reason))
        else:
            verdicts.append(recorded)
            heads.setdefault((recorded.sample_rate, len(head)), []).append((number, head))
    for (rate, _), alike in heads.items():
        numbers, together = zip(*alike, strict=True)
        resampled = _resample(np.stack(together, axis=1), rate, sample_rate)
        waveforms[list(numbers)] = _fix_length(resampled.T, length, padding)
    for number in np.flatnonzero(~np.isfinite(waveforms).all(axis=1)).tolist():
        waveforms[number], verdicts[number] = 0, "holds samples too large to resample"
    return waveforms, verdicts


def _read(content: bytes, duration: float) -> tuple[Samples, Recorded]:
    """Return the mono samples of the first `duration` seconds, and what was recorded."""
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            rate = file.samplerate
            frames = int(duration * rate)
            if not frames:
                raise Undecodable(f"audio.duration is shorter than one sample at {rate} Hz")
            # libsndfile reads these faster as what they are; as floats they are 32,768ths, exactly.
            whole = file.subtype == "PCM_16"
            dtype = "int16" if whole else "float32"
            wanted = max(frames, FRAMES_AT_A_TIME)
            block = file.read(wanted, dtype=dtype)
            head, samples, digest = block[:frames], 0, hashlib.md5(usedforsecurity=False)
            while len(block):
                if not (whole or np.isfinite(block).all()):
                    raise Undecodable("holds samples that are not finite")
                digest.update(block)
                samples += len(block)
                block = file.read(wanted, dtype=dtype) if len(block) == wanted else block[:0]
    except (soundfile.LibsndfileError, OSError) as error:
        raise Undecodable(str(getattr(error, "error_string", error))) from None
    if not samples:
        raise Undecodable("holds no samples")
    if whole:
        head = head * np.float32(1 / 32768)
    mono = head if head.ndim == 1 else np.mean(head.T, axis=0)
    return mono, Recorded(rate, samples, digest.hexdigest())


def _resample(waveforms: Samples, rate: int, target: int) -> Samples:
    """Return waveforms (samples, clips) at another rate."""
    if rate == target:
        return waveforms
    # As channels of one recording they take less time, and come out the same bit for bit.
    resampled: Samples = soxr.resample(waveforms, rate, target, quality="soxr_hq")
    # librosa rounds the length up, soxr to the nearest: the missing sample is silence there.
    length = int(np.ceil(len(waveforms) * (float(target) / rate)))
    return _fix_length(resampled.T, length, "constant").T


def _fix_length(waveforms: Samples, samples: int, padding: Literal["edge", "constant"]) -> Samples:
    missing = max(0, samples - waveforms.shape[1])
    cut = waveforms[:, :samples]
    return np.pad(cut, ((0, 0), (0, missing)), mode=padding) if missing else cut
