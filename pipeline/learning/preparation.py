"""Prepare a batch for training: compute features if there is noise, augment them, and smooth the targets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from pipeline.learning.augmentation import Augmentation
from pipeline.learning.batches import Subset
from pipeline.learning.network import Moments, measure
from pipeline.learning.noise import Noise, front_end
from pipeline.learning.settings import Train
from pipeline.learning.teacher import Teacher


@dataclass(frozen=True)
class Preparation:
    """A function from a batch of features to what a network is trained on.

    With a teacher, it takes two features of the same clips, the student's and the teacher's.

    Attributes:
        augmentations: of each feature; None leaves it as it is.
        front_ends: the layers that compute each feature from waveforms; empty without noise.
        label_smoothing: share of each target that is spread over all labels.
        class_weights: (labels,), or None if all clips count the same.
    """

    augmentations: Sequence[Augmentation | None]
    front_ends: Sequence[Any]
    label_smoothing: float
    class_weights: NDArray[np.float64] | None

    def __call__(self, features: Sequence[Any], targets: Any, seed: Any) -> tuple[Any, ...]:
        """Return features, targets, and weights if there are any.

        Features are float32 (clips, frames, bins), or a pair of them. Targets are float32 (clips, labels):
        one-hot in the arguments, smoothed in the result. With class weights, there are weights, float32
        (clips,), whose mean over all training clips is 1. The same seed, (2,) int64, gives the same result.
        """
        import tensorflow as tf

        augmented = [
            (values, targets) if augmentation is None else augmentation(values, targets, seed)
            for values, augmentation in zip(features, self.augmentations, strict=True)
        ]
        inputs = tuple(values for values, _ in augmented)
        targets = augmented[0][1]  # mixed the same way for both features
        weighted: tuple[Any, ...] = ()
        if self.class_weights is not None:
            weighted = (tf.linalg.matvec(targets, tf.constant(self.class_weights, tf.float32)),)
        smoothing, labels = self.label_smoothing, targets.shape[-1]
        targets = targets * (1 - smoothing) + smoothing / labels
        return inputs[0] if len(inputs) == 1 else inputs, targets, *weighted

    def from_waveforms(self, inputs: tuple[Any, Any], targets: Any) -> tuple[Any, ...]:
        """Return the same for `inputs`: waveforms (clips, samples), and the seed."""
        waveforms, seed = inputs
        return self([layer(waveforms) for layer in self.front_ends], targets, seed)


def prepare(
    train: Subset,
    settings: Train,
    moments: Moments,
    *,
    teacher: Teacher | None = None,
    noise: Noise | None = None,
) -> Preparation:
    """Return how batches of `train` are prepared.

    Args:
        train: the training clips.
        settings: the section `train` of params.yaml.
        moments: of `train`.
        teacher: whose outputs the network learns from.
        noise: to add to the clips.

    Raises:
        PipelineError: as `pipeline.learning.noise.front_end`, or a label in `class_weights` is not there.
    """
    subsets = [(train, moments)]
    if teacher is not None:
        subsets.append((teacher.train, measure(teacher.train, settings)))
    return Preparation(
        [_augmentation(subset, settings, of_subset) for subset, of_subset in subsets],
        [front_end(subset, noise.waveforms) for subset, _ in subsets] if noise is not None else [],
        settings.label_smoothing,
        _class_weights(train, settings),
    )


def _class_weights(train: Subset, settings: Train) -> NDArray[np.float64] | None:
    """Return the weight of each label, so that the training clips' mean weight is 1."""
    if settings.class_weights == "none":
        return None
    counts = np.bincount(train.targets, minlength=len(train.labels))
    if settings.class_weights == "balanced":
        return len(train.targets) / len(counts) / counts
    others = ", ".join(sorted(set(settings.class_weights) - set(train.labels)))
    if others:
        raise PipelineError(
            f"params.yaml: train.class_weights has {others}, expected some of the labels"
            f" {', '.join(train.labels)}: correct it"
        )
    weights: NDArray[np.float64] = np.array(
        [settings.class_weights.get(label, 1.0) for label in train.labels]
    )
    return weights / float(np.average(weights, weights=counts))


def _augmentation(subset: Subset, settings: Train, moments: Moments) -> Augmentation | None:
    if not settings.augment.changes_features:
        return None
    times = subset.store.params["feature"].get("frame_times")
    return Augmentation(settings.augment, moments.typical_value, times and times["step"])
