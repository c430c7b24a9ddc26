"""The demo data set: words spoken by espeak-ng, in an archive of the same form as a published one."""

import ctypes
import hashlib
import io
import os
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

A stand-in for the data set of that name, with its form and its words: clips of one word each, 16 kHz mono,
at most 1 s long, named <label>/<speaker>_nohash_<take>.wav.

The clips are synthetic: no person was recorded. They were spoken by espeak-ng, a text-to-speech program
under GPL-3.0-or-later (https://github.com/espeak-ng/espeak-ng), a speaker being one of its voices with one
of its English accents. Background noise was added.
"""
# The published archive was packed on macOS and holds what its Finder leaves in folders; so does this one.
EXTRAS = {
    f"__MACOSX/{TOP}/._.DS_Store": b"\x00\x05\x16\x07",
    f"{TOP}/.DS_Store": b"\x00\x00\x00\x01Bud1\x00",
    f"{TOP}/README.md": README.encode(),
}

# From espeak-ng's speak_lib.h.
ESPEAK_SAMPLE_RATE = 22_050  # Hz
SYNCHRONOUS, DO_NOT_EXIT, UTF8 = 2, 0x8000, 1
RATE, PITCH, PITCH_RANGE = 1, 3, 4
SYNTH_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


class Demo(Section):
    """`datasets.demo`: what is spoken, by how many speakers, in how much noise."""

    labels: list[Annotated[str, Field(pattern=r"^\w+$")]] = Field(min_length=1)
    voices: int = Field(ge=1)
    clips_per_label: int = Field(ge=1)
    min_snr: float
    max_snr: float
    seed: int = Field(ge=0)

    @model_validator(mode="after")
    def _words_and_noise(self) -> Self:
        if len(set(self.labels)) < len(self.labels):
            raise ValueError(f"must have labels that differ, has {', '.join(self.labels)}")
        if self.min_snr > self.max_snr:
            raise ValueError(f"must have min_snr at most max_snr, has {self.min_snr:g} and {self.max_snr:g}")
        return self


class Take(NamedTuple):
    """One word, spoken by one speaker for the `number`-th time."""

    label: str
    voice: str
    number: int

    @property
    def path(self) -> str:
        """Where its clip lies in the archive."""
        return f"{TOP}/{self.label}/{_speaker(self.voice)}_nohash_{self.number}.wav"


def write(demo: Demo, path: Path) -> None:
    """Write the zip archive of the demo data set to `path`: the same bytes for the same parameters.

    A clip depends on the seed, the range of the noise, its word, speaker and take alone, whatever else
    is in the archive. Nothing stands at `path` before the whole archive is there.

    Raises:
        PipelineError: espeak-ng is not installed or fails, or has fewer voices than `demo` wants.
    """
    library, voices = _load()
    if demo.voices > len(voices):
        raise PipelineError(
            f"params.yaml: datasets.demo.voices must be at most {len(voices)}, is {demo.voices}"
        )
    takes = {take.path: take for take in _takes(demo, voices[: demo.voices])}
    with (
        replacing(path) as part,
        zipfile.ZipFile(part, "w") as archive,
        Progress(len(takes), "clips", "speak") as progress,
    ):
        for name in sorted([*EXTRAS, *takes]):
            entry = zipfile.ZipInfo(name)  # of 1980-01-01, stored as it is
            entry.create_system, entry.external_attr = 3, 0o100644 << 16  # Unix, wherever it is written
            if name in takes:
                archive.writestr(entry, _clip(library, takes[name], demo))
                progress.update(1)
            else:
                archive.writestr(entry, EXTRAS[name])


def _load() -> tuple[ctypes.CDLL, list[str]]:
    """Return espeak-ng, which has said nothing so far, and its voices' names, accents and variants mixed."""
    try:
        import espeakng_loader

        library = ctypes.CDLL(espeakng_loader.get_library_path())
    except (ImportError, OSError):
        raise PipelineError(
            "dataset 'demo' needs espeak-ng: pip install '.[demo]', or choose another dataset in params.yaml"
        ) from None
    data = espeakng_loader.get_data_path()
    if library.espeak_Initialize(SYNCHRONOUS, 0, data.encode(), DO_NOT_EXIT) != ESPEAK_SAMPLE_RATE:
        raise PipelineError(
            f"espeak-ng cannot read its voices in {data}, expected them at {ESPEAK_SAMPLE_RATE} Hz: install"
            " espeakng-loader anew, under a short path, or choose another dataset in params.yaml"
        )
    library.espeak_ListVoices(None)  # else every child would search the voices' folder
    variants = [variant.name for variant in Path(data, "voices", "!v").iterdir()]
    return library, sorted((f"{accent}+{each}" for accent in ACCENTS for each in variants), key=_speaker)


def _takes(demo: Demo, voices: list[str]) -> list[Take]:
    takes = []
    for label in demo.labels:
        # Where clips_per_label is no multiple of the voices, other voices have a take more for each word.
        order = _generator(demo.seed, label).permutation(len(voices))
        for number in range(demo.clips_per_label):
            round_, turn = divmod(number, len(voices))
            takes.append(Take(label, voices[order[turn]], round_))
    return takes


def _clip(library: ctypes.CDLL, take: Take, demo: Demo) -> bytes:
    """Return a WAV file of the take in noise, everything but word and voice drawn by chance."""
    draw = _generator(demo.seed, *take)
    rate, pitch, pitch_range = (int(draw.integers(*of)) for of in ((120, 221), (30, 71), (20, 81)))
    word = _trim(
        soxr.resample(
            _speak(library, take, rate=rate, pitch=pitch, pitch_range=pitch_range),
            ESPEAK_SAMPLE_RATE,
            SAMPLE_RATE,
            quality="HQ",
        )
    )[:SAMPLE_RATE]
    # One clip in ten is short, yet never too short for its word.
    samples = int(draw.uniform(0.6, 0.95) * SAMPLE_RATE) if draw.random() < 0.1 else SAMPLE_RATE
    samples = max(samples, len(word))
    # Words end by 0.9 s: most of each lies in the first 0.8 s, which the pipeline keeps by default.
    latest = max(0, min(samples, int(0.9 * SAMPLE_RATE)) - len(word))
    start = int(draw.integers(0, latest, endpoint=True))
    snr = draw.uniform(demo.min_snr, demo.max_snr)
    waveform = _noise(draw, samples) * _rms(word) * 10 ** (-snr / 20)
    waveform[start : start + len(word)] += word
    waveform *= 10 ** (draw.uniform(-20, -1) / 20) / np.abs(waveform).max()
    file = io.BytesIO()
    soundfile.write(file, np.round(32767 * waveform).astype(np.int16), SAMPLE_RATE, format="WAV")
    return file.getvalue()


def _speak(
    library: ctypes.CDLL, take: Take, *, rate: int, pitch: int, pitch_range: int
) -> NDArray[np.float32]:
    """Return the waveform of the word at 22,050 Hz, silence around it included.

    espeak carries flutter, gain and phase from one word into the next, and cannot be reset. So each word
    is spoken by a fork of this process, which itself never speaks.

    Args:
        library: espeak-ng, as loaded.
        take: the word and the voice.
        rate: words per minute, 80 to 450.
        pitch: 0 to 99, 50 being the voice's own.
        pitch_range: 0 (monotone) to 99, 50 being the voice's own.
    """
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = _say(library, take, {RATE: rate, PITCH: pitch, PITCH_RANGE: pitch_range}, sender)
        finally:
            os._exit(status & 0xFF)
    os.close(sender)
    with open(receiver, "rb") as stream:
        waveform = np.frombuffer(stream.read(), np.int16)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status or not waveform.any():
        raise PipelineError(
            f"espeak-ng cannot say {take.label!r} in the voice {take.voice!r}: status {status},"
            f" {len(waveform)} samples, expected status 0 and some sound: change params.yaml:"
            " datasets.demo.labels, or install espeakng-loader anew"
        )
    return waveform.astype(np.float32) / 32768


def _say(library: ctypes.CDLL, take: Take, parameters: dict[int, int], sender: int) -> int:
    """Say the word into the pipe `sender`, as int16, and return espeak's first status that is not 0."""

    @SYNTH_CALLBACK
    def send(samples: int | None, count: int, _events: int | None) -> int:
        if samples:
            os.write(sender, ctypes.string_at(samples, 2 * count))
        return 0

    library.espeak_SetSynthCallback(send)
    # Breath is drawn from both generators, and espeak_Initialize seeds its own by the clock.
    library.srand(1)
    library.espeak_ng_SetRandSeed(ctypes.c_long(1))
    status: int = library.espeak_SetVoiceByName(take.voice.encode())
    for parameter, value in parameters.items():
        status = status or library.espeak_SetParameter(parameter, value, 0)
    text = take.label.encode()
    return status or library.espeak_Synth(text, ctypes.c_size_t(len(text) + 1), 0, 0, 0, UTF8, None, None)


def _noise(draw: np.random.Generator, samples: int) -> NDArray[np.float64]:
    """Return noise of RMS 1 whose power falls by 0 (white) to 6 dB (brown) per octave above 60 Hz."""
    spectrum = np.fft.rfft(draw.standard_normal(samples))
    frequencies = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    noise = np.fft.irfft(spectrum * np.maximum(frequencies, 60) ** -draw.uniform(0, 1), samples)
    return noise / _rms(noise)


def _rms(waveform: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(np.square(waveform))))


def _trim(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the waveform from its first to its last sample of at least 2 % of its peak."""
    loud = np.flatnonzero(np.abs(waveform) >= 0.02 * np.abs(waveform).max())
    return waveform[loud[0] : loud[-1] + 1]


def _generator(*key: object) -> np.random.Generator:
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest))


def _speaker(voice: str) -> str:
    """Return eight hexadecimal digits for a voice, as the published archive has for a person."""
    return hashlib.sha1(voice.encode(), usedforsecurity=False).hexdigest()[:8]
