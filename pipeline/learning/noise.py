"""Add noise to clips at a signal-to-noise ratio, for training and for scores.

Noise that is added to a stored feature does not give the feature of the noisy clip. So noise is added to the
stored waveforms, and the feature is computed again: for scores by the feature's `kernel`, as in the store,
and in training by its `layer`, as in exported models.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipeline.corpus.audio import Sound, Undecodable, decode_whole, fix_length
from pipeline.corpus.paths import is_clip
from pipeline.errors import PipelineError
from pipeline.features import Feature, NoLayerError
from pipeline.learning.batches import Subset
from pipeline.params import Section, Text, project
from pipeline.store.current import open_waveforms
from pipeline.store.layout import Store
from pipeline.store.reader import rows

SNRS = (20, 10, 5, 0)  # dB, at which a trained model is scored
KEY = "params.yaml: train.augment.noise"
# Before training, the layer is compared with the store on so many clips. It may differ by this share of the
# range of their values, because it rounds to single precision.
CHECKED = 64
MAX_DIFFERENCE = 1e-3
CLIPS_AT_A_TIME = 64

Waveforms = NDArray[np.float32]  # (clips, samples)


class NoiseSettings(Section):
    """`train.augment.noise`: how noise is added to training clips. Zeros add none."""

    probability: float = Field(ge=0, le=1)
    min_snr: float = Field(ge=-100, le=200)  # dB
    max_snr: float = Field(ge=-100, le=200)  # dB
    gain: float = Field(ge=0, le=100)  # dB
    folder: Text | None  # a folder of recordings of noise
    folder_md5: str | None = Field(pattern="^[0-9a-f]{32}$")

    @model_validator(mode="after")
    def _range_is_not_empty(self) -> Self:
        if self.min_snr > self.max_snr:
            raise ValueError(f"must have min_snr at most max_snr, has {self.min_snr:g} and {self.max_snr:g}")
        return self

    @property
    def changes_waveforms(self) -> bool:
        """Whether any clip is changed, so that its feature must be computed again."""
        return bool(self.probability or self.gain)


def mix(waveforms: Any, noise: Any, snr: Any) -> Any:
    """Return `waveforms` plus `noise`, both (clips, samples), at a ratio of `snr` (clips,) in dB.

    The ratio is that of the mean squares of the whole clip and of the whole piece. A silent clip gets no
    noise. Arguments and result are TensorFlow tensors or NumPy arrays, float32.
    """
    import tensorflow as tf

    signal, power = (tf.reduce_mean(tf.square(x), axis=1, keepdims=True) for x in (waveforms, noise))
    ratio = tf.pow(10.0, -tf.cast(snr, tf.float32)[:, None] / 10)
    return waveforms + noise * tf.sqrt(tf.math.divide_no_nan(signal, power) * ratio)


def add_noise(settings: NoiseSettings, pieces: Waveforms) -> Callable[[Any, Any], Any]:
    """Return a function that adds pieces of noise to a batch of waveforms, as `settings` say.

    It takes waveforms (clips, samples) and a seed, (2,) int64, and returns waveforms. The same seed does the
    same. With the configured probability, a clip gets a piece of noise, at a ratio drawn from `min_snr` to
    `max_snr`. Then its volume is changed by up to `gain` dB.

    Args:
        settings: the section `train.augment.noise` of params.yaml.
        pieces: (pieces, samples), as long as the waveforms.
    """
    import tensorflow as tf

    with tf.device("CPU"):
        variable = tf.Variable(pieces, trainable=False)  # a constant would be copied into the graph

    def add(waveforms: Any, seed: Any) -> Any:
        clips = tf.shape(waveforms)[:1]
        seeds = tf.unstack(tf.random.split(seed, 4))
        if settings.probability:
            chosen = tf.random.stateless_uniform(clips, seeds[0], 0, len(pieces), tf.int32)
            snr = tf.random.stateless_uniform(clips, seeds[1], settings.min_snr, settings.max_snr)
            noisy = mix(waveforms, tf.gather(variable.read_value(), chosen), snr)
            is_noisy = tf.random.stateless_uniform(clips, seeds[2]) < settings.probability
            waveforms = tf.where(is_noisy[:, None], noisy, waveforms)
        if settings.gain:
            gain = tf.random.stateless_uniform(clips, seeds[3], -settings.gain, settings.gain)
            waveforms *= tf.pow(10.0, gain / 20)[:, None]
        return waveforms

    return add


class Noise(NamedTuple):
    """What training with noise needs besides features."""

    waveforms: Store  # of the same clips
    pieces: Waveforms  # (pieces, samples)


def load(settings: NoiseSettings, train: Subset, waveforms: Path) -> Noise | None:
    """Return the noise of the training split and of the folder in `settings`, or None if none is added.

    Args:
        settings: the section `train.augment.noise` of params.yaml.
        train: the training clips.
        waveforms: the path of waveforms.h5.

    Raises:
        PipelineError: there is no noise, or as `find` and `open_waveforms`.
    """
    if not settings.changes_waveforms:
        return None
    store = open_waveforms(waveforms, train.store, [*train.rows, *train.noise])
    sound = Sound(**store.params["audio"])
    pieces = np.concatenate([rows(store)[train.noise], *_pieces(find(settings), sound)])
    if settings.probability and not len(pieces):
        raise PipelineError(
            f"{KEY}.probability is {settings.probability:g}, but the training split has no noise: name the"
            f" labels of noise recordings under clips.recordings, set {KEY}.folder to a folder of such"
            " recordings, or set the probability to 0"
        )
    return Noise(store, pieces)


def find(settings: NoiseSettings) -> list[Path]:
    """Return the recordings in the folder that `settings` name, sorted, or none if they name no folder.

    Raises:
        PipelineError: there is no such folder, or it has no recordings, or not those with the md5 in
            `settings`.
    """
    if settings.folder is None:
        return []
    folder = project() / settings.folder
    candidates = (path for path in folder.rglob("*") if is_clip(path.relative_to(folder).parts))
    paths = sorted(path for path in candidates if path.is_file())
    if not paths:
        raise PipelineError(
            f"{KEY}.folder is {settings.folder!r}, expected a folder of audio files: correct it"
        )
    digest = hashlib.md5(usedforsecurity=False)
    for path in paths:
        digest.update(f"{path.relative_to(folder).as_posix()}\n{path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    if digest.hexdigest() != settings.folder_md5:
        raise PipelineError(
            f"{KEY}.folder_md5 is {settings.folder_md5 or 'null'}, but the recordings in"
            f" {settings.folder} have the md5 {digest.hexdigest()}: set it to train with them"
        )
    return paths


def _pieces(paths: Sequence[Path], sound: Sound) -> list[Waveforms]:
    """Return the consecutive pieces (pieces, samples) of each recording. A short recording is padded."""
    pieces = []
    for path in paths:
        try:
            waveform = decode_whole(path.read_bytes(), sample_rate=sound.sample_rate)
        except Undecodable as reason:
            raise PipelineError(f"{path} cannot be decoded: {reason}: remove it") from None
        count = max(1, len(waveform) // sound.samples)
        pieces.append(fix_length(waveform[None], count * sound.samples, sound.padding).reshape(count, -1))
    return pieces


def front_end(subset: Subset, waveforms: Store) -> Any:
    """Return the layer that computes the subset's feature from waveforms: (clips, samples) → as stored.

    Raises PipelineError if the feature has no layer, or if the layer does not compute what is stored.
    """
    stored = subset.store.params["feature"]
    try:
        layer = Feature.restore(stored["params"]).layer(
            waveforms.params["audio"]["sample_rate"], waveforms.shape[1]
        )
    except NoLayerError as error:
        raise PipelineError(
            f"{KEY} cannot be used with the feature {stored['name']}: {error}, or set {KEY}.probability and"
            f" {KEY}.gain to 0"
        ) from None
    few = subset.rows[:CHECKED]
    expected = rows(subset.store)[few].astype(np.float32)
    difference = np.abs(np.asarray(layer(rows(waveforms)[few])) - expected).max(initial=0)
    bound = MAX_DIFFERENCE * np.ptp(expected) if expected.size else 0
    if not difference <= bound:
        raise PipelineError(
            f"{KEY} cannot be used with the feature {stored['name']}: its `graph` differs by {difference:.2g}"
            f" from its `kernel`, expected at most {bound:.2g}: correct it in"
            f" pipeline/features/{stored['params']['kind']}.py"
        )
    return layer


def noisy_features(
    subset: Subset, waveforms: Store, snr: float, *, seed: int = 0
) -> Iterator[NDArray[np.float32]]:
    """Yield the features (clips, frames, bins) of the subset's clips in noise, 64 clips at a time.

    Each clip gets a piece of its split's noise, the same for every `snr` and model. The features are computed
    as those in the store.

    Args:
        subset: the clips.
        waveforms: the store of their waveforms.
        snr: the signal-to-noise ratio in dB.
        seed: chooses the pieces.
    """
    chosen = subset.noise[np.random.default_rng(seed).integers(len(subset.noise), size=len(subset.rows))]
    kernel = Feature.restore(subset.store.params["feature"]["params"]).kernel(
        waveforms.params["audio"]["sample_rate"]
    )
    stored = rows(waveforms)
    for start in range(0, len(subset.rows), CLIPS_AT_A_TIME):
        batch = slice(start, start + CLIPS_AT_A_TIME)
        noisy = mix(stored[subset.rows[batch]], stored[chosen[batch]], np.full(len(chosen[batch]), snr))
        yield kernel(np.asarray(noisy)).astype(subset.store.dtype).astype(np.float32)
