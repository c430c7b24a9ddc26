"""Encode waveforms as files that a browser plays."""

import io

import numpy as np
import soundfile
from numpy.typing import NDArray


def flac(samples: NDArray[np.float32], sample_rate: int) -> bytes:
    """Return the waveform `samples` (samples,) as a 16-bit FLAC file. Values beyond ±1 are clipped."""
    file = io.BytesIO()
    soundfile.write(file, np.clip(samples, -1, 1), sample_rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()
