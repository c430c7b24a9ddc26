"""Build the network: the model of params.yaml behind layers that normalise the feature."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from pipeline.learning.batches import Subset
from pipeline.learning.settings import Train
from pipeline.models import Model
from pipeline.needs import need_memory
from pipeline.store.reader import rows

# The smallest magnitude whose logarithm is taken; smaller ones count as this. It is 62 dB below the magnitude
# of a full-scale sine in a frame of 512 samples, which hides most of a recording's noise.
MIN_MAGNITUDE = 0.1
# The bytes of a weight, and the fewest of a layer's output, in mixed precision.
BYTES, LEAST_BYTES = 4, 2
# How many values an optimiser keeps for each weight.
OPTIMIZER_SLOTS = {"adam": 2, "adamw": 2, "sgd": 1}


class Moments(NamedTuple):
    """Mean and variance of each bin over all frames of the training clips."""

    mean: NDArray[np.float32]  # (bins,)
    variance: NDArray[np.float32]  # (bins,)
    log: bool  # whether they are those of the values' logarithms

    @property
    def typical_value(self) -> NDArray[np.float32]:
        """The value (bins,), as stored, that the network sees as its mean."""
        # NumPy's exp and log depend on the processor in the last digits.
        return np.array([math.exp(mean) for mean in self.mean], np.float32) if self.log else self.mean


def measure(train: Subset, settings: Train) -> Moments:
    """Return the moments of the training clips. This reads all of them, once.

    They are the moments of logarithms if `settings.normalize` is `log` and the feature declares magnitudes.
    """
    from scipy.special import xlogy  # 1 log(x), see typical_value

    log = settings.normalize == "log" and train.store.params["feature"].get("scale") == "magnitude"
    values = rows(train.store)
    total = squares = np.zeros(values.shape[-1])
    for row in train.rows:
        clip = values[row].astype(np.float64)
        if log:
            clip = xlogy(1, np.maximum(clip, MIN_MAGNITUDE))
        total = total + clip.sum(axis=0)
        squares = squares + (clip**2).sum(axis=0)
    frames = len(train.rows) * values.shape[1]
    mean = total / frames
    variance = np.maximum(squares / frames - mean**2, 0)
    return Moments(mean.astype(np.float32), variance.astype(np.float32), log)


def build(model: Model, train: Subset, settings: Train, moments: Moments) -> Any:
    """Return an untrained Keras model: (clips, frames, bins) as stored → logits (clips, labels), float32.

    Its first layers normalise, so that you pass features as they are stored. With `settings.normalize` `log`
    or `linear`, each bin's mean is subtracted, and the rest is divided by the bin's deviation, or by that of
    the whole feature, as `settings.scale` says.

    Raises PipelineError if the model cannot take the feature, or if memory is too small to train it.
    """
    import keras

    name = type(model).__name__.lower()
    feature, audio = train.store.params["feature"], train.store.params["audio"]
    problems = model.problems(feature["params"], audio["sample_rate"])
    if problems:
        raise PipelineError("\n".join(f"params.yaml: models.{name} {problem}" for problem in problems))
    inputs = scaled = keras.Input(train.row_shape, name="feature", dtype="float32")
    if moments.log:
        scaled = keras.ops.log(keras.ops.maximum(scaled, MIN_MAGNITUDE))
    if settings.normalize != "none":
        variance = moments.variance
        if settings.scale == "feature":
            variance = np.full_like(variance, variance.mean())
        scaled = keras.layers.Normalization(
            mean=moments.mean, variance=variance, dtype="float32", name="normalization"
        )(scaled)
    needs = _Needs(name, settings, min(settings.batch_size, len(train.rows)))
    keras.config.set_dtype_policy(settings.precision)
    try:
        with needs.of_layers(train.row_shape):
            logits = model.logits(scaled, len(train.labels))
    except ValueError as error:
        frames, bins = train.row_shape
        raise PipelineError(
            f"params.yaml: model {name} cannot take a feature of {frames} frames x {bins} bins:"
            f" {str(error).splitlines()[0]}: choose another feature, or another size of the model"
        ) from None
    except RecursionError:
        raise PipelineError(
            f"params.yaml: model {name} has more layers than Keras can join: lower its number of blocks"
        ) from None
    finally:
        keras.config.set_dtype_policy("float32")
    if settings.precision != "float32":
        logits = keras.layers.Activation("linear", dtype="float32", name="logits_float32")(logits)
    network = keras.Model(inputs, logits, name=name)
    # Gradients need the outputs of all layers with weights.
    tensors = keras.tree.flatten([layer.output for layer in network.layers if layer.weights])
    num_weights = sum(math.prod(weight.shape) for weight in network.weights)
    needs.check(num_weights, [train.row_shape, *(tensor.shape[1:] for tensor in tensors)], held=num_weights)
    return network


class _Needs(NamedTuple):
    """Compares what training needs with the memory, and raises PipelineError if that is too small."""

    name: str  # of the model
    settings: Train
    clips: int  # in a batch

    def check(self, num_weights: int, outputs: Iterable[Sequence[int]], *, held: int) -> None:
        """Check a model that has at least `num_weights` weights, of which `held` are in memory already.

        `outputs` are the shapes of what its layers return for a clip.
        """
        import tensorflow as tf

        if tf.config.list_logical_devices("GPU"):
            return  # the memory is the GPU's, whose size TensorFlow does not say
        clips = self.clips // tf.distribute.get_strategy().num_replicas_in_sync
        copies = 2 + OPTIMIZER_SLOTS[self.settings.optimizer]  # the weights and their gradients
        need_memory(
            BYTES * copies * num_weights + LEAST_BYTES * clips * sum(map(math.prod, outputs)),
            f"training models.{self.name}, with {num_weights:,} weights and {self.clips:,} clips in a batch,",
            f"make params.yaml: models.{self.name} smaller, or lower train.batch_size",
            held=BYTES * held,
        )

    @contextmanager
    def of_layers(self, inputs: Sequence[int]) -> Iterator[None]:
        """Check all layers that are called in this block, each before Keras allocates its weights.

        `inputs` is the shape of a clip.
        """
        import keras

        add_weight, total = keras.layers.Layer.add_weight, 0

        def checked(layer: Any, shape: Any = None, *args: Any, **kwargs: Any) -> Any:
            nonlocal total
            held, total = total, total + math.prod(shape or ())
            self.check(total, [inputs], held=held)
            return add_weight(layer, shape, *args, **kwargs)

        keras.layers.Layer.add_weight = checked
        try:
            yield
        finally:
            keras.layers.Layer.add_weight = add_weight
