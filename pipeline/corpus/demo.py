"""Create the demo data set: words that espeak-ng speaks, in an archive like a published one."""

import ctypes
import hashlib
import io
import zipfile
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple, Self

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipeline.errors import PipelineError
from pipeline.files import atomic_write
from pipeline.needs import need_disk
from pipeline.parallel import each
from pipeline.params import Section, Seed
from pipeline.progress import Progress

SAMPLE_RATE = 16_000  # Hz
ACCENTS = ("en-us", "en-gb-scotland", "en-gb-x-rp", "en-029")
TOP = "mini_speech_commands"
README = f"""# {TOP}, synthetic

A stand-in for the data set of that name, in its form: <label>/<speaker>_nohash_<take>.wav, one word each,
16 kHz mono, at most 1 s. _background_noise_ has longer recordings of noise.

The clips are synthetic, no person was recorded: espeak-ng spoke them, a text-to-speech program under
GPL-3.0-or-later (https://github.com/espeak-ng/espeak-ng). A speaker is one of its voices in one of its
English accents. Background noise was added.
"""
# The published archive was packed on macOS and contains the Finder's hidden files. This one does too.
EXTRAS = {
    f"__MACOSX/{TOP}/._.DS_Store": b"\x00\x05\x16\x07",
    f"{TOP}/.DS_Store": b"\x00\x00\x00\x01Bud1\x00",
    f"{TOP}/README.md": README.encode(),
}

# Recordings of noise, and by how many times 6 dB its power falls per octave.
NOISES = {"white_noise.wav": 0.0, "pink_noise.wav": 0.5, "brown_noise.wav": 1.0}
NOISE_RMS = 0.1  # of full scale

# Constants of espeak-ng's speak_lib.h.
ESPEAK_SAMPLE_RATE = 22_050  # Hz
SYNCHRONOUS, DO_NOT_EXIT, UTF8 = 2, 0x8000, 1
RATE, PITCH, PITCH_RANGE = 1, 3, 4


class Demo(Section):
    """The section `datasets.demo`: which words are spoken, by how many speakers, in how much noise."""

    # The words.
    labels: list[Annotated[str, Field(pattern=r"^\w+$", max_length=100)]] = Field(
        min_length=1, max_length=1000
    )
    voices: int = Field(ge=1, le=416)  # espeak-ng has 104 variants in 4 accents
    clips_per_label: int = Field(ge=1, le=100_000)
    min_snr: float = Field(ge=-40, le=100)  # dB
    max_snr: float = Field(ge=-40, le=100)  # dB
    noise_seconds: float = Field(ge=0, le=3600)  # length of each recording of noise
    seed: Seed

    @model_validator(mode="after")
    def _labels_differ_and_range_is_not_empty(self) -> Self:
        if len(set(self.labels)) < len(self.labels):
            raise ValueError(f"must have labels that differ, has {', '.join(self.labels)}")
        if self.min_snr > self.max_snr:
            raise ValueError(f"must have min_snr at most max_snr, has {self.min_snr:g} and {self.max_snr:g}")
        return self


class Take(NamedTuple):
    """One time that a voice speaks a word."""

    label: str
    voice: str
    number: int  # how many takes of the word the voice has before this one

    @property
    def path(self) -> str:
        """The path of the take's clip in the archive."""
        return f"{TOP}/{self.label}/{_speaker(self.voice)}_nohash_{self.number}.wav"


def write(demo: Demo, path: Path) -> None:
    """Write the demo data set to `path`, as a zip archive. The same parameters give the same bytes.

    A clip depends only on its word, speaker and take, on the seed, and on the range of the signal-to-noise
    ratio, not on the other clips. `jobs()` processes speak. `path` appears when the archive is complete.

    Raises:
        PipelineError: espeak-ng is not installed, or it fails, or the disk is too small.
    """
    takes = {take.path: take for take in _takes(demo, _voices()[: demo.voices])}
    need_disk(path, 2 * SAMPLE_RATE * len(takes), "datasets.demo", "lower its clips_per_label in params.yaml")
    others = {**EXTRAS, **_recordings(demo)}
    # espeak-ng has one global state for all threads, and other machines may lack it.
    spoken = each(partial(_clip, demo=demo), [takes[name] for name in sorted(takes)], isolated=True)
    with (
        atomic_write(path) as part,
        zipfile.ZipFile(part, "w") as archive,
        Progress(len(takes), "clips", "speak") as progress,
    ):
        for name in sorted([*others, *takes]):
            entry = zipfile.ZipInfo(name)  # dated 1980-01-01, not compressed
            entry.create_system, entry.external_attr = 3, 0o100644 << 16  # as on Unix, on every system
            if name in takes:
                archive.writestr(entry, next(spoken))
                progress.update(1)
            else:
                archive.writestr(entry, others[name])


def _recordings(demo: Demo) -> dict[str, bytes]:
    """Return the WAV files of noise, by their paths in the archive."""
    samples = round(demo.noise_seconds * SAMPLE_RATE)
    if not samples:
        return {}
    return {
        f"{TOP}/_background_noise_/{name}": _wav(
            NOISE_RMS * _noise(_generator(demo.seed, name), samples, slope)
        )
        for name, slope in NOISES.items()
    }


def _wav(waveform: NDArray[np.float64]) -> bytes:
    file = io.BytesIO()
    clipped = np.clip(np.round(32767 * waveform), -32768, 32767).astype(np.int16)
    soundfile.write(file, clipped, SAMPLE_RATE, format="WAV")
    return file.getvalue()


def _voices() -> list[str]:
    """Return the names of espeak-ng's voices, each variant in each accent, in a mixed but fixed order."""
    try:
        import espeakng_loader
    except ImportError:
        raise PipelineError(
            "dataset 'demo' needs espeak-ng: run pip install '.[demo]', or choose another dataset in"
            " params.yaml"
        ) from None
    variants = [file.name for file in Path(espeakng_loader.get_data_path(), "voices", "!v").iterdir()]
    return sorted((f"{accent}+{variant}" for accent in ACCENTS for variant in variants), key=_speaker)


def _speaker(voice: str) -> str:
    """Return the name of the voice's speaker: 8 hexadecimal digits, as in the published data set."""
    return hashlib.sha1(voice.encode(), usedforsecurity=False).hexdigest()[:8]


def _takes(demo: Demo, voices: list[str]) -> list[Take]:
    takes = []
    for label in demo.labels:
        # Each word has its own order of voices, so other voices speak in the last, incomplete round.
        order = _generator(demo.seed, label).permutation(len(voices))
        for clip in range(demo.clips_per_label):
            number, turn = divmod(clip, len(voices))
            takes.append(Take(label, voices[order[turn]], number))
    return takes


def _clip(take: Take, demo: Demo) -> bytes:
    """Return a WAV file of the take in noise. Everything but the word and the voice is random."""
    random = _generator(demo.seed, *take)
    rate, pitch, pitch_range = (int(random.integers(*bounds)) for bounds in ((120, 221), (30, 71), (20, 81)))
    spoken = _speak(take, rate=rate, pitch=pitch, pitch_range=pitch_range)
    word = _trim(soxr.resample(spoken, ESPEAK_SAMPLE_RATE, SAMPLE_RATE, quality="HQ"))[:SAMPLE_RATE]
    # One clip in ten is short, as in the published archive, but long enough for its word.
    samples = int(random.uniform(0.6, 0.95) * SAMPLE_RATE) if random.random() < 0.1 else SAMPLE_RATE
    samples = max(samples, len(word))
    # The word ends by 0.9 s, so most of it is in the first 0.8 s, which is all that the notebook reads.
    latest = max(0, min(samples, int(0.9 * SAMPLE_RATE)) - len(word))
    start = int(random.integers(0, latest, endpoint=True))
    snr = random.uniform(demo.min_snr, demo.max_snr)
    waveform = _noise(random, samples) * _rms(word) * 10 ** (-snr / 20)
    waveform[start : start + len(word)] += word
    waveform *= 10 ** (random.uniform(-20, -1) / 20) / np.abs(waveform).max()  # peak in dB of full scale
    return _wav(waveform)


def _speak(take: Take, *, rate: int, pitch: int, pitch_range: int) -> NDArray[np.float32]:
    """Return the word as a waveform at 22,050 Hz, with silence around it.

    Args:
        take: the word and the voice.
        rate: words per minute, 80 to 450.
        pitch: 0 to 99. The voice's own pitch is 50.
        pitch_range: 0 (monotone) to 99. The voice's own range is 50.
    """
    from _ctypes import dlclose

    import espeakng_loader

    spoken = bytearray()

    def collect(samples: int | None, count: int, _events: int | None) -> int:
        if samples:
            spoken.extend(ctypes.string_at(samples, 2 * count))
        return 0

    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)(collect)
    data, text = espeakng_loader.get_data_path(), take.label.encode()
    # espeak carries flutter, gain and phase from one word into the next, and has no function to reset them.
    # Loading the library again for each word resets them.
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    try:
        sample_rate = library.espeak_Initialize(SYNCHRONOUS, 0, data.encode(), DO_NOT_EXIT)
        library.espeak_SetSynthCallback(callback)
        # Breath is random, from both generators. espeak_Initialize seeds its own with the time.
        library.srand(1)
        library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        status = (
            sample_rate != ESPEAK_SAMPLE_RATE
            or library.espeak_SetVoiceByName(take.voice.encode())
            or library.espeak_SetParameter(RATE, rate, 0)
            or library.espeak_SetParameter(PITCH, pitch, 0)
            or library.espeak_SetParameter(PITCH_RANGE, pitch_range, 0)
            or library.espeak_Synth(text, ctypes.c_size_t(len(text) + 1), 0, 0, 0, UTF8, None, None)
        )
    finally:
        library.espeak_Terminate()
        dlclose(library._handle)  # noqa: SLF001 - ctypes does not unload libraries
    waveform = np.frombuffer(spoken, np.int16)
    if status or not waveform.any():
        raise PipelineError(
            f"espeak-ng cannot say {take.label!r} in the voice {take.voice!r} (status {int(status)},"
            f" {len(waveform):,} samples, data in {data}): change params.yaml: datasets.demo.labels, or"
            " install espeakng-loader again"
        )
    return waveform.astype(np.float32) / np.float32(32768)


def _trim(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the waveform from its first to its last sample of at least 2 % of its peak."""
    loud = np.flatnonzero(np.abs(waveform) >= 0.02 * np.abs(waveform).max())
    return waveform[loud[0] : loud[-1] + 1]


def _noise(random: np.random.Generator, samples: int, slope: float | None = None) -> NDArray[np.float64]:
    """Return noise of RMS 1, whose power falls by `slope` times 6 dB per octave above 60 Hz.

    A slope of 0 is white, and 1 is brown. Without one, it is drawn between them.
    """
    spectrum = np.fft.rfft(random.standard_normal(samples))
    frequencies = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    drawn = random.uniform(0, 1) if slope is None else slope
    noise = np.fft.irfft(spectrum * np.maximum(frequencies, 60) ** -drawn, samples)
    return noise / _rms(noise)


def _rms(waveform: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(np.square(waveform))))


def _generator(*key: object) -> np.random.Generator:
    """Return a random generator that depends only on `key`, so that a clip depends on no other clip."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest))
