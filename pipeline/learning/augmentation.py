"""Augment training clips: shift and stretch them in time, warp and mask them, and mix them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.learning.noise import NoiseSettings
from pipeline.params import Section


class Augment(Section):
    """`train.augment`: how training clips are changed at random. Zeros change nothing."""

    time_shift: float = Field(ge=0, le=3600)  # seconds
    time_stretch: float = Field(ge=0, lt=1)
    frequency_warp: float = Field(ge=0, lt=1)
    time_masks: int = Field(ge=0, le=1000)
    time_mask: float = Field(ge=0, le=3600)  # seconds
    frequency_masks: int = Field(ge=0, le=1000)
    frequency_mask: int = Field(ge=0, le=100_000)  # bins
    mixup: float = Field(ge=0, le=1000)
    noise: NoiseSettings

    @property
    def changes_features(self) -> bool:
        """Whether any feature is changed. Noise is added to waveforms instead."""
        return any(self.model_dump(exclude={"noise"}).values())


@dataclass(frozen=True)
class Augmentation:
    """A function that changes a batch as `settings` say.

    Attributes:
        settings: the section `train.augment` of params.yaml.
        fill: (bins,), what masked values become.
        seconds_per_frame: from one frame to the next. None for a feature that declares no frame times: then
            `time_shift` and `time_mask` are numbers of frames.
    """

    settings: Augment
    fill: NDArray[np.float32]
    seconds_per_frame: float | None = None

    def __call__(self, values: Any, targets: Any, seed: Any) -> tuple[Any, Any]:
        """Return a batch (clips, frames, bins) and its targets (clips, labels), changed at random.

        All arguments and results are TensorFlow tensors. The same seed, (2,) int64, gives the same result.
        Two features of the same clips are changed alike by the same seed, as far as their axes allow: times
        are the same, and so are mixtures. Warps and masks of frequencies count bins, so they are alike only
        if the features have the same bins.

        Shifts, and stretches about the clip's middle, take the nearest frame, and repeat the first or last
        one beyond the ends. Warps multiply a bin's number, as a longer or shorter vocal tract multiplies its
        frequency (Jaitly & Hinton 2013), and interpolate between bins. Masks are those of SpecAugment (Park
        et al. 2019, https://arxiv.org/abs/1904.08779), different for each clip. Mixup (Zhang et al. 2018,
        https://arxiv.org/abs/1710.09412) replaces a clip and its target by 1 - s of itself plus s of another
        clip of the batch, with a share s of at most a half for each pair.
        """
        import tensorflow as tf

        settings = self.settings
        shift, longest_mask = self._frames(settings.time_shift), self._frames(settings.time_mask)
        stretch, warp = settings.time_stretch, settings.frequency_warp
        seeds = tf.unstack(tf.random.split(seed, 6))
        clips, frames, bins = tf.shape(values)[0], values.shape[1], values.shape[2]
        if shift or stretch:
            by = _integers([clips, 1], 2 * shift + 1, seeds[0]) - shift
            rate = tf.random.stateless_uniform([clips, 1], seeds[4], 1 - stretch, 1 + stretch)
            middle = (frames - 1) / 2
            source = (tf.range(frames, dtype=tf.float32)[None] - middle) * rate + middle
            source = tf.clip_by_value(tf.cast(tf.round(source), tf.int32) + by, 0, frames - 1)
            values = tf.gather(values, source, batch_dims=1)
        if warp:
            rate = tf.random.stateless_uniform([clips, 1], seeds[5], 1 - warp, 1 + warp)
            exact = tf.minimum(tf.range(bins, dtype=tf.float32)[None] * rate, bins - 1.0)
            below = tf.floor(exact)
            share = (exact - below)[:, None]
            lower = tf.gather(values, tf.cast(below, tf.int32), axis=2, batch_dims=1)
            upper = tf.gather(values, tf.cast(tf.math.ceil(exact), tf.int32), axis=2, batch_dims=1)
            values = lower + (upper - lower) * share
        for masks, longest, length, axis, mask_seed in (
            (settings.time_masks, longest_mask, frames, 2, seeds[1]),
            (settings.frequency_masks, settings.frequency_mask, bins, 1, seeds[2]),
        ):
            if masks and longest:
                masked = _stretches(clips, masks, min(longest, length), length, mask_seed)
                values = tf.where(tf.expand_dims(masked, axis), tf.constant(self.fill), values)
        if settings.mixup:
            share = _beta(settings.mixup, clips, seeds[3])
            other = tf.roll(values, 1, 0), tf.roll(targets, 1, 0)
            values += (other[0] - values) * share[:, None, None]
            targets += (other[1] - targets) * share[:, None]
        return values, targets

    def _frames(self, time: float) -> int:
        return round(time / (self.seconds_per_frame or 1))


def _stretches(clips: Any, num_stretches: int, longest: int, length: int, seed: Any) -> Any:
    """Return (clips, length) bool: True in `num_stretches` stretches per clip, each 0 to `longest` long."""
    import tensorflow as tf

    one, two = tf.unstack(tf.random.split(seed, 2))
    long = _integers([clips, num_stretches, 1], longest + 1, one)
    start = _integers([clips, num_stretches, 1], length - long + 1, two)
    place = tf.range(length)[None, None]
    return tf.reduce_any((place >= start) & (place < start + long), axis=1)


def _integers(shape: list[Any], stop: Any, seed: Any) -> Any:
    """Return integers of this shape, drawn from 0 to `stop - 1`."""
    import tensorflow as tf

    return tf.cast(tf.random.stateless_uniform(shape, seed) * tf.cast(stop, tf.float32), tf.int32)


def _beta(alpha: float, clips: Any, seed: Any) -> Any:
    """Return (clips,) draws of Beta(alpha, alpha), each the smaller of the draw and its complement."""
    import tensorflow as tf

    one, two = (
        tf.random.stateless_gamma([clips], part, alpha) for part in tf.unstack(tf.random.split(seed, 2))
    )
    share = tf.math.divide_no_nan(one, one + two)
    return tf.minimum(share, 1 - share)
