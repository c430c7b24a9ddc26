"""A file → a waveform: decode, resample, cut or pad."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipeline.params import Section

FRAMES_AT_A_TIME = 1 << 16


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


class Undecodable(Exception):  # noqa: N818 - a verdict on a clip, which the caller counts
    """Why a file gives no waveform."""


@dataclass(frozen=True)
class Recording:
    """A decoded clip, and what it was in the file."""

    waveform: NDArray[np.float32]
    sample_rate: int  # Hz, as recorded
    samples: int  # per channel, as recorded
    md5: str  # of all samples as recorded, float32, channels interleaved


def decode(path: Path, audio: Audio) -> Recording:
    """Return the first `audio.duration` seconds of a file at `audio.sample_rate`, padded if shorter.

    Channels are averaged, then resampled by soxr's HQ. Equals, value for value,
    `librosa.util.fix_length(librosa.load(path, sr=sample_rate, duration=duration)[0],
    size=round(sample_rate * duration), mode=padding)`.

    Args:
        path: a file in any format that libsndfile reads.
        audio: the rate, length and padding.

    Returns:
        waveform (audio.samples,), float32, full scale at ±1.

    Raises:
        Undecodable: the file cannot be read, holds no samples, or some that are not finite.
    """
    digest = hashlib.md5(usedforsecurity=False)
    samples = 0
    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            frames = int(audio.duration * rate)
            if not frames:
                raise Undecodable(f"audio.duration is shorter than one sample at {rate} Hz")
            head = file.read(frames, dtype="float32")
            block = head
            while len(block):
                digest.update(np.ascontiguousarray(block).data)
                samples += len(block)
                if not np.isfinite(block).all():
                    raise Undecodable("holds samples that are not finite")
                block = file.read(FRAMES_AT_A_TIME, dtype="float32")
    except (soundfile.LibsndfileError, OSError) as error:
        raise Undecodable(str(getattr(error, "error_string", error))) from None
    if not samples:
        raise Undecodable("holds no samples")
    mono = head if head.ndim == 1 else np.mean(head.T, axis=0)
    waveform = _fix_length(_resample(mono, rate, audio.sample_rate), audio.samples, audio.padding)
    if not np.isfinite(waveform).all():
        raise Undecodable("holds samples too large to resample")
    return Recording(
        waveform=waveform,
        sample_rate=rate,
        samples=samples,
        md5=digest.hexdigest(),
    )


def _resample(waveform: NDArray[np.float32], rate: int, target: int) -> NDArray[np.float32]:
    if rate == target:
        return waveform
    resampled: NDArray[np.float32] = soxr.resample(waveform, rate, target, quality="soxr_hq")
    # librosa rounds the length up, soxr to the nearest: the missing sample is silence there.
    return _fix_length(resampled, int(np.ceil(len(waveform) * (float(target) / rate))), "constant")


def _fix_length(
    waveform: NDArray[np.float32], samples: int, padding: Literal["edge", "constant"]
) -> NDArray[np.float32]:
    missing = max(0, samples - len(waveform))
    return np.pad(waveform[:samples], (0, missing), mode=padding)
