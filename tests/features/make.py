"""The features and waveforms that the tests of features share."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.features import Spectral
from pipeline.features.logmel import LogMel
from pipeline.features.mfcc import MFCC
from pipeline.features.stft import STFT

Waveforms = NDArray[np.float32]
SAMPLES, RATE = 17640, 22050
CUT: dict[str, Any] = {
    "n_fft": 512,
    "win_length": 512,
    "hop_length": 128,
    "window": "hann",
    "center": False,
    "dtype": "float32",
}
MEL: dict[str, Any] = {**CUT, "center": True, "n_mels": 128, "fmin": 0.0, "fmax": None}
DEFAULT_STFT = STFT(kind="stft", **CUT)
DEFAULT_MFCC = MFCC(kind="mfcc", **MEL, n_mfcc=39)
ALL: list[Spectral] = [
    DEFAULT_STFT,
    STFT(kind="stft", **{**CUT, "n_fft": 400, "win_length": 321, "hop_length": 160, "window": "hamming"}),
    STFT(kind="stft", **{**CUT, "n_fft": 1024, "win_length": 600, "window": "blackman", "center": True}),
    STFT(kind="stft", **{**CUT, "win_length": 1}),
    LogMel(kind="logmel", **{**MEL, "n_mels": 40, "fmin": 20.0, "fmax": 8000.0}),
    LogMel(
        kind="logmel", **{**MEL, "win_length": 400, "hop_length": 220, "window": "boxcar", "center": False}
    ),
    DEFAULT_MFCC,
    MFCC(kind="mfcc", **{**MEL, "n_mels": 40, "n_fft": 1024, "hop_length": 220, "fmin": 50.0}, n_mfcc=13),
    MFCC(kind="mfcc", **{**MEL, "win_length": 300, "window": "hamming", "center": False}, n_mfcc=20),
]


def hard_waveforms() -> Waveforms:
    """Return noise, silence, a square wave, a click, tones, a sweep, and very loud and very quiet noise."""
    time = np.arange(SAMPLES) / RATE
    rows = np.zeros((27, SAMPLES), np.float32)
    rows[:14] = np.random.default_rng(0).uniform(-0.5, 0.5, (14, SAMPLES))
    rows[15] = np.sign(np.sin(2 * np.pi * 440 * time))
    rows[16, 9000] = 1
    rows[17] = 1e-5 * np.sin(2 * np.pi * 1000 * time)
    rows[18] = np.sin(2 * np.pi * 1000 * time)
    rows[19, :300] = 0.5
    for row, hertz in ((20, 31.7), (21, 5000), (22, 9000), (23, 10990)):
        rows[row] = np.sin(2 * np.pi * hertz * time)
    rows[24] = np.sin(2 * np.pi * 5000 * time**2)
    rows[25] = 1e12 * rows[0]
    rows[26] = 1e-12 * rows[0]
    return rows
