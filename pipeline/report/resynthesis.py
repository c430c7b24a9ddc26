"""Make a feature audible: find a waveform that has it, by Griffin and Lim's algorithm."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.features import Feature


def waveform(
    values: NDArray[Any],
    params: dict[str, Any],
    *,
    samples: int,
    iterations: int,
    seed: int,
) -> NDArray[np.float32] | None:
    """Return a waveform (samples,), full scale ±1, whose feature is about `values`.

    The feature says which magnitudes have these values. Their phases, which no feature keeps, are found by
    Griffin & Lim 1984 in the form of Perraudin, Balazs & Søndergaard 2013 (`librosa.griffinlim`). If frames
    are not centred, half a frame at each end of the clip is in no frame, and is silent here.

    Args:
        values: one clip's row of a store, (frames, bins).
        params: the store's parameters, `audio` and `feature`.
        samples: the length of the waveform.
        iterations: of the algorithm.
        seed: of the phases that it starts from.

    Returns None for a feature that cannot become a spectrum again, or has a single frame.
    """
    from threadpoolctl import threadpool_limits

    feature = Feature.restore(params["feature"]["params"])
    # The last bits of a sum depend on the number of threads.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_fft=.* is too large")
        spectrum = feature.spectrum(values.astype(np.float32), params["audio"]["sample_rate"])
        if spectrum is None or spectrum.magnitudes.shape[1] < 2:
            return None
        import librosa

        # As centred frames, these are the frames of a waveform that begins in the middle of the first one.
        rebuilt = librosa.griffinlim(
            spectrum.magnitudes,
            n_iter=iterations,
            n_fft=spectrum.n_fft,
            win_length=spectrum.win_length,
            hop_length=spectrum.hop_length,
            window=spectrum.window,
            center=True,
            random_state=seed,
        )
    start = 0 if spectrum.center else spectrum.n_fft // 2
    rebuilt = np.pad(rebuilt, (start, samples))[:samples]
    return (rebuilt / max(1.0, float(np.abs(rebuilt).max()))).astype(np.float32)
