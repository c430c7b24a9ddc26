"""Make a feature audible: find a waveform that has it, by Griffin and Lim's algorithm."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.features import Feature, Spectra

# As in librosa.griffinlim.
MOMENTUM = 0.99
# Added to magnitudes, so that nothing is divided by 0. The squares of smaller ones are 0.
TINY = 1e-150


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
    Griffin & Lim 1984 in the form of Perraudin, Balazs & Søndergaard 2013, as in `librosa.griffinlim`. Equal
    values give equal bytes on every x86-64 processor: see `pipeline.features`. If frames are not centred,
    half a frame at each end of the clip is in no frame, and is silent here.

    Args:
        values: one clip's row of a store, (frames, bins).
        params: the store's parameters, `audio` and `feature`.
        samples: the length of the waveform.
        iterations: of the algorithm.
        seed: of the phases that it starts from.

    Returns None for a feature that cannot become a spectrum again, or has a single frame.
    """
    feature = Feature.restore(params["feature"]["params"])
    spectrum = feature.spectrum(values.astype(np.float32), params["audio"]["sample_rate"])
    if spectrum is None or spectrum.magnitudes.shape[1] < 2:
        return None
    # As centred frames, these are the frames of a waveform that begins in the middle of the first one.
    spectra = Spectra(
        spectrum.n_fft,
        spectrum.win_length,
        spectrum.hop_length,
        spectrum.window,
        center=True,
        precision="float64",
    )
    rebuilt = _griffin_lim(spectrum.magnitudes.T[None], spectra, iterations, seed)[0]
    start = 0 if spectrum.center else spectrum.n_fft // 2
    rebuilt = np.pad(rebuilt, (start, samples))[:samples]
    return (rebuilt / max(1.0, float(np.abs(rebuilt).max()))).astype(np.float32)


def _griffin_lim(
    magnitudes: NDArray[np.float32], spectra: Spectra, iterations: int, seed: int
) -> NDArray[np.float64]:
    """Return waveforms (clips, samples) whose spectra have about these `magnitudes` (clips, frames, bins)."""
    # Pairs of random numbers are complex numbers with random phases.
    pairs = np.random.default_rng(seed).uniform(-1, 1, (*magnitudes.shape, 2))
    estimate = _with_magnitudes(pairs.view(np.complex128)[..., 0], magnitudes)
    waveforms = np.zeros(1)
    for _ in range(iterations):
        previous, waveforms = waveforms, spectra.inverse(estimate)
        # The transform is linear, so waveforms can be extrapolated instead of spectra.
        ahead = waveforms - MOMENTUM / (1 + MOMENTUM) * previous
        estimate = _with_magnitudes(spectra(ahead), magnitudes)
    return spectra.inverse(estimate)


def _with_magnitudes(
    spectra: NDArray[np.complex128], magnitudes: NDArray[np.float32]
) -> NDArray[np.complex128]:
    """Return `spectra` with the same phases and these `magnitudes`.

    The real and imaginary parts are computed separately, because the rounding of complex products depends on
    the processor.
    """
    size = np.sqrt(np.square(spectra.real) + np.square(spectra.imag)) + TINY
    changed = np.empty_like(spectra)
    changed.real = spectra.real / size * magnitudes
    changed.imag = spectra.imag / size * magnitudes
    return changed
