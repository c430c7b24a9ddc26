"""Makes small models that take sound, with random weights, and exports them."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.features import Feature
from pipeline.features.logmel import LogMel
from pipeline.features.mfcc import MFCC
from pipeline.features.stft import STFT
from pipeline.learning import runtime
from pipeline.learning.saving import save
from pipeline.models import Model
from pipeline.models.speech import Speech
from pipeline.serving.description import Description
from pipeline.serving.export import PATHS, Exporter, Format

LABELS = ["go", "stop", "yes"]
AUDIO: dict[str, Any] = {"sample_rate": 16000, "duration": 0.5, "padding": "edge"}
SAMPLES = 8000
CUT: dict[str, Any] = {
    "n_fft": 256,
    "win_length": 200,
    "hop_length": 320,
    "window": "hann",
    "dtype": "float32",
}
BANDS: dict[str, Any] = {**CUT, "center": True, "n_mels": 40, "fmin": 60.0, "fmax": 7600.0}
FEATURES: dict[str, Feature] = {
    "logmel": LogMel(kind="logmel", **BANDS),
    "mfcc": MFCC(kind="mfcc", n_mfcc=40, **BANDS),
    "stft": STFT(kind="stft", center=False, **CUT),
}


def waveforms(clips: int = 24) -> NDArray[np.float32]:
    """Return noise (clips, samples). Its colour differs between the labels, which take turns."""
    generator = np.random.default_rng(0)
    spectra = np.fft.rfft(generator.normal(size=(clips, SAMPLES)))
    octaves = np.linspace(0, 8, spectra.shape[1])
    for number in range(clips):
        peak = 2 * (number % len(LABELS)) + generator.uniform(0.5, 2)
        spectra[number] *= np.exp(-np.abs(octaves - peak))
    noise = np.fft.irfft(spectra, SAMPLES).astype(np.float32)
    loudest: NDArray[np.float32] = np.abs(noise).max(axis=1, keepdims=True)
    return noise / (2 * loudest)


def description(model: Model, feature: Feature) -> Description:
    """Return the description of a model that was trained on `feature`."""
    return Description.model_validate(
        {
            "labels": LABELS,
            "audio": AUDIO,
            "feature": {"name": feature.kind, "params": feature.model_dump()},
            "model": {"name": type(model).__name__.lower(), "params": model.model_dump(by_alias=True)},
            "train": {"seed": 0},
            "licences": model.licences(),
        }
    )


def network(model: Model, feature: Feature) -> Any:
    """Return a network that has learned to tell the labels of `waveforms` apart."""
    import keras

    runtime.start(0)
    values = feature.kernel(AUDIO["sample_rate"])(waveforms()).astype(feature.dtype).astype(np.float32)
    inputs = keras.Input(values.shape[1:])
    normalise = keras.layers.Normalization(mean=values.mean((0, 1)), variance=values.var((0, 1)))
    taken = inputs if isinstance(model, Speech) else normalise(inputs)
    net = keras.Model(inputs, model.logits(taken, len(LABELS)))
    for layer in net.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.5
    net.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    net.optimizer.learning_rate = 0.01
    net.fit(values, np.arange(len(values)) % len(LABELS), batch_size=len(values), epochs=30, verbose=0)
    return net


def exporter(model: Model, feature: Feature, net: Any = None) -> Exporter:
    """Return the exporter of `net`, or of a network with random weights."""
    return Exporter(net or network(model, feature), feature, description(model, feature), waveforms())


def export(folder: Path, model: Model, feature: Feature, *formats: Format) -> Any:
    """Write `formats` and the .keras file into `folder`; return the network."""
    net = network(model, feature)
    export_ = exporter(model, feature, net)
    for name in formats:
        export_.write(name, folder / PATHS[name])
    save(net, folder / "model.keras", description(model, feature).model_dump())
    return net


def expected(net: Any, feature: Feature, clips: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probabilities that Keras gives for the feature as stores have it."""
    from scipy.special import softmax

    values = feature.kernel(AUDIO["sample_rate"])(clips).astype(feature.dtype).astype(np.float32)
    probabilities: NDArray[np.float32] = softmax(net.predict(values, verbose=0), axis=1)
    return probabilities
