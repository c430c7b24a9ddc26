"""Augmentation: how training clips change."""

from typing import Any

import numpy as np
import pytest

from pipeline.learning.augmentation import Augmentation
from tests.learning.make import NO_AUGMENT

pytestmark = pytest.mark.tensorflow

CLIPS, FRAMES, BINS = 40, 30, 20
FILL = np.full(BINS, -1, np.float32)
VALUES = np.arange(1, CLIPS * FRAMES * BINS + 1, dtype=np.float32).reshape(CLIPS, FRAMES, BINS)
TARGETS = np.eye(CLIPS, dtype=np.float32)


def _apply(seed: int = 0, *, seconds_per_frame: float | None = None, **changes: Any) -> tuple[Any, Any]:
    import tensorflow as tf

    augmentation = Augmentation(NO_AUGMENT.model_copy(update=changes), FILL, seconds_per_frame)
    values, targets = augmentation(
        tf.constant(VALUES), tf.constant(TARGETS), tf.constant([seed, 1], tf.int64)
    )
    return values.numpy(), targets.numpy()


@pytest.mark.parametrize(
    ("seconds", "frames"),
    [
        ({"time_shift": 0.03}, {"time_shift": 3.0}),
        ({"time_masks": 1, "time_mask": 0.04}, {"time_masks": 1, "time_mask": 4.0}),
    ],
)
def test_seconds_become_frames(seconds: dict[str, Any], frames: dict[str, Any]) -> None:
    """If frames are 10 ms apart, 0.03 s is 3 frames. Without frame times, times are numbers of frames."""
    in_seconds, _ = _apply(seconds_per_frame=0.01, **seconds)
    in_frames, _ = _apply(**frames)
    np.testing.assert_array_equal(in_seconds, in_frames)
    assert (in_frames != VALUES).any()


def test_nothing_asked_for_changes_nothing() -> None:
    """With every parameter 0 a batch comes out as it went in."""
    values, targets = _apply()
    np.testing.assert_array_equal(values, VALUES)
    np.testing.assert_array_equal(targets, TARGETS)


def test_a_shift_moves_frames_and_repeats_the_last() -> None:
    """Each clip is moved by -3 to 3 frames, all of which occur; the edge fills what is left."""
    values, _ = _apply(time_shift=3.0)
    by = []
    for before, after in zip(VALUES, values, strict=True):
        matches = [
            shift
            for shift in range(-5, 6)
            if np.array_equal(after, before[np.clip(np.arange(FRAMES) + shift, 0, FRAMES - 1)])
        ]
        assert len(matches) == 1
        by += matches
    assert set(by) == {-3, -2, -1, 0, 1, 2, 3}


def test_a_stretch_is_about_the_middle() -> None:
    """Frames come from the nearest of a clip that is up to a fifth faster or slower, its middle unmoved."""
    values, _ = _apply(time_stretch=0.2)
    rates = []
    for before, after in zip(VALUES, values, strict=True):
        rows = [int(np.flatnonzero((before == frame).all(axis=1))[0]) for frame in after]
        assert rows[FRAMES // 2 - 1 : FRAMES // 2 + 1] == [FRAMES // 2 - 1, FRAMES // 2]
        assert (np.diff(rows) >= 0).all()
        rates.append((rows[-1] - rows[0]) / (FRAMES - 1))
    assert 0.79 < min(rates) < 0.9
    assert max(rates) == 1.0  # faster ones meet the clip's ends
    assert len(set(rates)) > 2


def test_a_warp_moves_bins_in_proportion_to_their_number() -> None:
    """Bin f takes what was at f times a rate from 0.8 to 1.2, between bins in proportion."""
    values, _ = _apply(frequency_warp=0.2)
    ramp = values - VALUES[:, :, :1]  # bins of a frame count up by 1
    np.testing.assert_allclose(ramp[:, :, 0], 0, atol=0.01)
    rates = ramp[:, 0, 10] / 10
    expected = np.minimum(np.arange(BINS) * rates[:, None, None], BINS - 1)
    np.testing.assert_allclose(ramp, np.broadcast_to(expected, ramp.shape), atol=0.02)
    assert 0.8 <= rates.min() < 0.9
    assert 1.1 < rates.max() <= 1.2


@pytest.mark.parametrize(("kind", "axis"), [("time", 1), ("frequency", 2)])
def test_masks_are_stretches_of_the_fill(kind: str, axis: int) -> None:
    """In each clip whole frames, or bins, become the fill: none to 2 stretches of at most 4; others stay."""
    values, _ = _apply(**{f"{kind}_masks": 2, f"{kind}_mask": 4})
    masked = values == -1
    lines = masked.any(axis=3 - axis)
    np.testing.assert_array_equal(masked, np.broadcast_to(np.expand_dims(lines, 3 - axis), masked.shape))
    np.testing.assert_array_equal(values[~masked], VALUES[~masked])
    starts = (np.diff(lines.astype(int), axis=1, prepend=0) == 1).sum(axis=1)
    assert starts.max() == 2
    assert lines.sum(axis=1).max() <= 8
    assert len({tuple(line) for line in lines}) > CLIPS // 2


def test_mixup_adds_a_smaller_share_of_another_clip() -> None:
    """Values and targets are mixed in the same shares, the clip's own at least a half, targets sum to 1."""
    values, targets = _apply(mixup=0.4)
    own = np.diag(targets)
    assert own.min() >= 0.5
    assert own.std() > 0.05
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-6)
    expected = np.einsum("co,ofb->cfb", targets, VALUES)
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_a_seed_is_a_batch() -> None:
    """The same seed gives the same values, another others."""
    everything = {
        "time_shift": 3.0, "time_stretch": 0.1, "frequency_warp": 0.1, "mixup": 0.3,
        "time_masks": 1, "time_mask": 4.0, "frequency_masks": 1, "frequency_mask": 4,
    }  # fmt: skip
    one, two, other = _apply(1, **everything), _apply(1, **everything), _apply(2, **everything)
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])
    assert (one[0] != other[0]).any()
