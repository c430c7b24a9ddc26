"""The demo data set: words spoken by espeak-ng, in an archive of the same form as a published one."""

import ctypes
import hashlib
import io
import zipfile
from pathlib import Path
from typing import Annotated, NamedTuple, Self

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipeline.errors import PipelineError
from pipeline.files import replacing
from pipeline.params import Section
from pipeline.progress import Progress

SAMPLE_RATE = 16_000  # Hz
ACCENTS = ("en-us", "en-gb-scotland", "en-gb-x-rp", "en-029")
TOP = "mini_speech_commands"
README = f"""# {TOP}, synthetic

A stand-in for the data set of that name, in its form: <label>/<speaker>_nohash_<take>.wav, one word each,
16 kHz mono, at most 1 s.

The clips are synthetic, no person was recorded: espeak-ng spoke them, a text-to-speech program under
GPL-3.0-or-later (https://github.com/espeak-ng/espeak-ng). A speaker is one of its voices in one of its
English accents. Background noise was added.
"""
# The published archive was packed on macOS and holds what the Finder leaves in folders; so does this one.
EXTRAS = {
    f"__MACOSX/{TOP}/._.DS_Store": b"\x00\x05\x16\x07",
    f"{TOP}/.DS_Store": b"\x00\x00\x00\x01Bud1\x00",
    f"{TOP}/README.md": README.encode(),
}

# From espeak-ng's speak_lib.h.
ESPEAK_SAMPLE_RATE = 22_050  # Hz
SYNCHRONOUS, DO_NOT_EXIT, UTF8 = 2, 0x8000, 1
RATE, PITCH, PITCH_RANGE = 1, 3, 4
CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


class Demo(Section):
    """`datasets.demo`: what is spoken, by how many speakers, in how much noise."""

    labels: list[Annotated[str, Field(pattern=r"^\w+$")]] = Field(min_length=1)
    voices: int = Field(ge=1, le=416)  # espeak-ng's: 104 variants in 4 accents
    clips_per_label: int = Field(ge=1)
    min_snr: float = Field(ge=-40, le=100)
    max_snr: float = Field(ge=-40, le=100)
    seed: int = Field(ge=0)

    @model_validator(mode="after")
    def _words_and_noise(self) -> Self:
        if len(set(self.labels)) < len(self.labels):
            raise ValueError(f"must have labels that differ, has {', '.join(self.labels)}")
        if self.min_snr > self.max_snr:
            raise ValueError(f"must have min_snr at most max_snr, has {self.min_snr:g} and {self.max_snr:g}")
        return self


class Take(NamedTuple):
    """A word, spoken by a voice for the `number`-th time."""

    label: str
    voice: str
    number: int

    @property
    def path(self) -> str:
        """Where its clip lies in the archive."""
        return f"{TOP}/{self.label}/{_speaker(self.voice)}_nohash_{self.number}.wav"


def write(demo: Demo, path: Path) -> None:
    """Write the demo data set to `path` as a zip archive: the same bytes for the same parameters.

    A clip depends on its word, speaker and take, on the seed and the range of the signal-to-noise ratio,
    and on nothing else in the archive. Nothing stands at `path` before the whole archive is there.

    Raises:
        PipelineError: espeak-ng is not installed, or fails.
    """
    takes = {take.path: take for take in _takes(demo, _voices()[: demo.voices])}
    with (
        replacing(path) as part,
        zipfile.ZipFile(part, "w") as archive,
        Progress(len(takes), "clips", "speak") as progress,
    ):
        for name in sorted([*EXTRAS, *takes]):
            entry = zipfile.ZipInfo(name)  # dated 1980-01-01, not compressed
            entry.create_system, entry.external_attr = 3, 0o100644 << 16  # Unix, wherever it is written
            if name in takes:
                archive.writestr(entry, _clip(takes[name], demo))
                progress.update(1)
            else:
                archive.writestr(entry, EXTRAS[name])


def _voices() -> list[str]:
    """Return the names of espeak-ng's voices, each variant in each accent, well mixed."""
    try:
        import espeakng_loader
    except ImportError:
        raise PipelineError(
            "dataset 'demo' needs espeak-ng: pip install '.[demo]', or choose another dataset in params.yaml"
        ) from None
    variants = [file.name for file in Path(espeakng_loader.get_data_path(), "voices", "!v").iterdir()]
    return sorted((f"{accent}+{variant}" for accent in ACCENTS for variant in variants), key=_speaker)


def _speaker(voice: str) -> str:
    return hashlib.sha1(voice.encode(), usedforsecurity=False).hexdigest()[:8]


def _takes(demo: Demo, voices: list[str]) -> list[Take]:
    takes = []
    for label in demo.labels:
        # In another order for each word: in a last, incomplete round other voices speak.
        order = _generator(demo.seed, label).permutation(len(voices))
        for clip in range(demo.clips_per_label):
            number, turn = divmod(clip, len(voices))
            takes.append(Take(label, voices[order[turn]], number))
    return takes


def _clip(take: Take, demo: Demo) -> bytes:
    """Return a WAV file of the take in noise; all but the word and the voice is drawn at random."""
    draw = _generator(demo.seed, *take)
    rate, pitch, pitch_range = (int(draw.integers(*bounds)) for bounds in ((120, 221), (30, 71), (20, 81)))
    spoken = _speak(take, rate=rate, pitch=pitch, pitch_range=pitch_range)
    word = _trim(soxr.resample(spoken, ESPEAK_SAMPLE_RATE, SAMPLE_RATE, quality="HQ"))[:SAMPLE_RATE]
    # One clip in ten is short, as in the published archive, but never too short for its word.
    samples = int(draw.uniform(0.6, 0.95) * SAMPLE_RATE) if draw.random() < 0.1 else SAMPLE_RATE
    samples = max(samples, len(word))
    # A word ends by 0.9 s: most of it lies in the first 0.8 s, which the pipeline reads by default.
    latest = max(0, min(samples, int(0.9 * SAMPLE_RATE)) - len(word))
    start = int(draw.integers(0, latest, endpoint=True))
    snr = draw.uniform(demo.min_snr, demo.max_snr)
    waveform = _noise(draw, samples) * _rms(word) * 10 ** (-snr / 20)
    waveform[start : start + len(word)] += word
    waveform *= 10 ** (draw.uniform(-20, -1) / 20) / np.abs(waveform).max()  # peak in dB of full scale
    file = io.BytesIO()
    soundfile.write(file, np.round(32767 * waveform).astype(np.int16), SAMPLE_RATE, format="WAV")
    return file.getvalue()


def _speak(take: Take, *, rate: int, pitch: int, pitch_range: int) -> NDArray[np.float32]:
    """Return the word as a waveform at 22,050 Hz, with silence around it.

    Args:
        take: the word and the voice.
        rate: words per minute, 80 to 450.
        pitch: 0 to 99; at 50 it is the voice's own.
        pitch_range: 0 (monotone) to 99; at 50 it is the voice's own.
    """
    from _ctypes import dlclose

    import espeakng_loader

    spoken = bytearray()

    def keep(samples: int | None, count: int, _events: int | None) -> int:
        if samples:
            spoken.extend(ctypes.string_at(samples, 2 * count))
        return 0

    data, text, callback = espeakng_loader.get_data_path(), take.label.encode(), CALLBACK(keep)
    # espeak carries flutter, gain and phase from one word into the next, and no call of its resets them.
    # Loading it anew for each word does.
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    try:
        found = library.espeak_Initialize(SYNCHRONOUS, 0, data.encode(), DO_NOT_EXIT)
        library.espeak_SetSynthCallback(callback)
        # Breath is drawn from both generators; espeak_Initialize has seeded its own with the time.
        library.srand(1)
        library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        status = (
            found != ESPEAK_SAMPLE_RATE
            or library.espeak_SetVoiceByName(take.voice.encode())
            or library.espeak_SetParameter(RATE, rate, 0)
            or library.espeak_SetParameter(PITCH, pitch, 0)
            or library.espeak_SetParameter(PITCH_RANGE, pitch_range, 0)
            or library.espeak_Synth(text, ctypes.c_size_t(len(text) + 1), 0, 0, 0, UTF8, None, None)
        )
    finally:
        library.espeak_Terminate()
        dlclose(library._handle)  # noqa: SLF001 - ctypes never unloads by itself
    waveform = np.frombuffer(spoken, np.int16)
    if status or not waveform.any():
        raise PipelineError(
            f"espeak-ng cannot say {take.label!r} in the voice {take.voice!r} (status {int(status)},"
            f" {len(waveform):,} samples, data in {data}): change params.yaml: datasets.demo.labels, or"
            " install espeakng-loader anew"
        )
    return waveform.astype(np.float32) / np.float32(32768)


def _trim(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the waveform from its first to its last sample of at least 2 % of its peak."""
    loud = np.flatnonzero(np.abs(waveform) >= 0.02 * np.abs(waveform).max())
    return waveform[loud[0] : loud[-1] + 1]


def _noise(draw: np.random.Generator, samples: int) -> NDArray[np.float64]:
    """Return noise of RMS 1, its power falling by 0 (white) to 6 dB (brown) per octave above 60 Hz."""
    spectrum = np.fft.rfft(draw.standard_normal(samples))
    frequencies = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    noise = np.fft.irfft(spectrum * np.maximum(frequencies, 60) ** -draw.uniform(0, 1), samples)
    return noise / _rms(noise)


def _rms(waveform: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(np.square(waveform))))


def _generator(*key: object) -> np.random.Generator:
    """Return a generator for `key` alone, so that what it draws depends on no other clip."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest))
