"""Training clips made to differ: shifted in time, with parts masked, and mixed."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.params import Section


class Augment(Section):
    """`train.augment`: what is done to training clips, each batch anew. Zeros do nothing."""

    time_shift: float = Field(ge=0)  # seconds
    time_stretch: float = Field(ge=0, lt=1)
    frequency_warp: float = Field(ge=0, lt=1)
    time_masks: int = Field(ge=0)
    time_mask: float = Field(ge=0)  # seconds
    frequency_masks: int = Field(ge=0)
    frequency_mask: int = Field(ge=0)  # bins
    mixup: float = Field(ge=0)


@dataclass(frozen=True)
class Augmentation:
    """What `Augment` comes to for one feature.

    Attributes:
        shift: frames by which a clip is moved at most, to either side.
        stretch: share by which a clip is faster or slower at most.
        warp: share by which its bins stand higher or lower at most.
        time_masks: stretches of frames to mask, each of a length from none to `time_mask` frames.
        time_mask: frames.
        frequency_masks: the same over bins.
        frequency_mask: bins.
        mixup: parameter of the Beta distribution that the shares of two clips are drawn from.
        fill: (bins,), what masked values become.
    """

    shift: int
    stretch: float
    warp: float
    time_masks: int
    time_mask: int
    frequency_masks: int
    frequency_mask: int
    mixup: float
    fill: NDArray[np.float32]

    @classmethod
    def of(cls, augment: Augment, seconds_per_frame: float, fill: NDArray[np.float32]) -> "Augmentation":
        """Return `augment` in frames."""
        return cls(
            shift=round(augment.time_shift / seconds_per_frame),
            stretch=augment.time_stretch,
            warp=augment.frequency_warp,
            time_masks=augment.time_masks,
            time_mask=round(augment.time_mask / seconds_per_frame),
            frequency_masks=augment.frequency_masks,
            frequency_mask=augment.frequency_mask,
            mixup=augment.mixup,
            fill=fill,
        )

    def __call__(self, values: Any, targets: Any, seed: Any) -> tuple[Any, Any]:
        """Return a batch (clips, frames, bins) and its targets (clips, labels), changed at random.

        The same seed, (2,) int64, gives the same batch. TensorFlow tensors, all of them.

        Shifts and stretches, about the clip's middle, repeat the first or last frame; frames in between are
        the nearest. Warps multiply a bin's number, as a longer or shorter vocal tract would its frequency
        (Jaitly & Hinton 2013), and interpolate. Masks are SpecAugment's (Park et al. 2019,
        https://arxiv.org/abs/1904.08779), each clip's its own. Mixup (Zhang et al. 2018,
        https://arxiv.org/abs/1710.09412) adds to each clip another of the batch, targets too, in shares
        (1 - s) and s, s at most a half, each pair's its own.
        """
        import tensorflow as tf

        seeds = tf.unstack(tf.random.split(seed, 6))
        clips, frames, bins = tf.shape(values)[0], values.shape[1], values.shape[2]
        if self.shift or self.stretch:
            by = tf.random.stateless_uniform([clips, 1], seeds[0], -self.shift, self.shift + 1, tf.int32)
            rate = tf.random.stateless_uniform([clips, 1], seeds[4], 1 - self.stretch, 1 + self.stretch)
            middle = (frames - 1) / 2
            source = (tf.range(frames, dtype=tf.float32)[None] - middle) * rate + middle
            source = tf.clip_by_value(tf.cast(tf.round(source), tf.int32) + by, 0, frames - 1)
            values = tf.gather(values, source, batch_dims=1)
        if self.warp:
            rate = tf.random.stateless_uniform([clips, 1], seeds[5], 1 - self.warp, 1 + self.warp)
            exact = tf.minimum(tf.range(bins, dtype=tf.float32)[None] * rate, bins - 1.0)
            below = tf.floor(exact)
            share = (exact - below)[:, None]
            lower = tf.gather(values, tf.cast(below, tf.int32), axis=2, batch_dims=1)
            upper = tf.gather(values, tf.cast(tf.math.ceil(exact), tf.int32), axis=2, batch_dims=1)
            values = lower + (upper - lower) * share
        for masks, longest, length, axis, own in (
            (self.time_masks, self.time_mask, frames, 2, seeds[1]),
            (self.frequency_masks, self.frequency_mask, bins, 1, seeds[2]),
        ):
            if masks and longest:
                masked = _stretches(clips, masks, min(longest, length), length, own)
                values = tf.where(tf.expand_dims(masked, axis), tf.constant(self.fill), values)
        if self.mixup:
            share = _beta(self.mixup, clips, seeds[3])
            other = tf.roll(values, 1, 0), tf.roll(targets, 1, 0)
            values += (other[0] - values) * share[:, None, None]
            targets += (other[1] - targets) * share[:, None]
        return values, targets


def _stretches(clips: Any, number: int, longest: int, length: int, seed: Any) -> Any:
    """Return (clips, length) bool: True in `number` stretches a clip, each of 0 to `longest` in a row."""
    import tensorflow as tf

    one, two = tf.unstack(tf.random.split(seed, 2))
    long = tf.random.stateless_uniform([clips, number, 1], one, 0, longest + 1, tf.int32)
    free = tf.cast(length - long + 1, tf.float32)
    start = tf.cast(tf.random.stateless_uniform([clips, number, 1], two) * free, tf.int32)
    place = tf.range(length)[None, None]
    return tf.reduce_any((place >= start) & (place < start + long), axis=1)


def _beta(alpha: float, clips: Any, seed: Any) -> Any:
    """Return (clips,) draws of Beta(alpha, alpha), the smaller of each and its complement."""
    import tensorflow as tf

    one, two = (
        tf.random.stateless_gamma([clips], own, alpha) for own in tf.unstack(tf.random.split(seed, 2))
    )
    share = tf.math.divide_no_nan(one, one + two)
    return tf.minimum(share, 1 - share)
