"""What is left of a clip in its feature: a waveform that has it, found by Griffin and Lim's algorithm."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray


def waveform(
    values: NDArray[Any], made: dict[str, Any], *, samples: int, iterations: int, seed: int
) -> NDArray[np.float32] | None:
    """Return a waveform (samples,), full scale ±1, whose feature is about `values`.

    The spectrum's phases, which no feature keeps, are found by Griffin & Lim 1984 in the form of Perraudin,
    Balazs & Søndergaard 2013 (`librosa.griffinlim`). Before that, cepstra are turned back into mel bands as
    far as they go, and mel bands into the spectrum of no negative value that is nearest in least squares.
    Frames that are not centred leave half a frame at the clip's ends, which is silent here.

    Args:
        values: one clip's row of a store, (frames, bins).
        made: the store's parameters, `audio` and `feature`.
        samples: the length of the waveform.
        iterations: of the algorithm.
        seed: of the phases that it starts from.

    Returns None for a feature that holds no spectrum, or a single frame.
    """
    import librosa
    from threadpoolctl import threadpool_limits

    described = made["feature"]
    with threadpool_limits(1), warnings.catch_warnings():  # sums' last bits depend on the number of threads
        warnings.filterwarnings("ignore", message="n_fft=.* is too large")
        magnitudes = _magnitudes(values.astype(np.float32).T, described, made["audio"]["sample_rate"])
        if magnitudes is None or magnitudes.shape[1] < 2:
            return None
        # Taken for centred, the frames are those of a waveform that begins in the middle of the first.
        found = librosa.griffinlim(
            magnitudes,
            n_iter=iterations,
            n_fft=described["n_fft"],
            win_length=described["win_length"],
            hop_length=described["hop_length"],
            window=described["window"],
            center=True,
            random_state=seed,
        )
    start = 0 if described["center"] else described["n_fft"] // 2
    found = np.pad(found, (start, samples))[:samples]
    return (found / max(1.0, float(np.abs(found).max()))).astype(np.float32)


def _magnitudes(
    values: NDArray[np.float32], described: dict[str, Any], sample_rate: int
) -> NDArray[np.float32] | None:
    """Return the magnitudes (1 + n_fft // 2, frames) that `values` (bins, frames) tell; None: they don't."""
    from librosa.feature import inverse

    number = 1 + described.get("n_fft", 0) // 2
    if described["magnitudes"] and "center" in described and len(values) == number:
        return values
    if "n_mels" not in described:
        return None
    if "n_mfcc" in described:
        power = inverse.mfcc_to_mel(values, n_mels=described["n_mels"])
    else:
        power = 10 ** (values / 10)
    magnitudes: NDArray[np.float32] = inverse.mel_to_stft(
        power,
        sr=sample_rate,
        n_fft=described["n_fft"],
        power=2.0,
        fmin=described["fmin"],
        fmax=described["fmax"],
    )
    return magnitudes
