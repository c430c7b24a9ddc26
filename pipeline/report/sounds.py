"""Waveforms as files that a browser plays."""

import io

import numpy as np
import soundfile
from numpy.typing import NDArray


def flac(samples: NDArray[np.float32], sample_rate: int) -> bytes:
    """Return `samples` (samples,), full scale ±1, as a FLAC file of 16 bits; beyond full scale it is cut."""
    file = io.BytesIO()
    soundfile.write(file, np.clip(samples, -1, 1), sample_rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()
