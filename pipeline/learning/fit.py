"""Trains a model on one side of the split, watches it on another, and saves its best epoch."""

import importlib.util
import json
import math
import re
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipeline.errors import PipelineError
from pipeline.files import replacing
from pipeline.learning.augmentation import Augment, Augmentation
from pipeline.learning.batches import AHEAD, Cache, Side, batches
from pipeline.models import Model
from pipeline.params import Section
from pipeline.store.reader import rows

if TYPE_CHECKING:
    import tensorflow as tf

# Magnitudes below this count as this before the logarithm: 62 dB below those of a full-scale sine in a
# frame of 512 samples, which leaves most of a recording's noise out.
MIN_MAGNITUDE = 0.1


class Train(Section):
    """`train`: how a model is trained."""

    seed: int = Field(ge=0)
    normalize: Literal["log", "linear", "none"]
    scale: Literal["feature", "bin"]
    cache: Cache
    batch_size: int = Field(ge=1)
    epochs: int = Field(ge=1)
    optimizer: Literal["adam", "adamw", "sgd"]
    learning_rate: float = Field(gt=0)
    schedule: Literal["constant", "cosine"]
    warmup: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    clip_norm: float | None = Field(gt=0)
    label_smoothing: float = Field(ge=0, lt=1)
    class_weights: Literal["none", "balanced"]
    monitor: Literal["accuracy", "loss"]
    patience: int = Field(ge=1)
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"]
    jit: bool
    deterministic: bool
    tensorboard: bool
    augment: Augment

    @model_validator(mode="after")
    def _decay_has_an_optimizer(self) -> Self:
        if self.weight_decay and self.optimizer == "adam":
            raise ValueError("has a weight_decay, which adam is without: choose adamw or sgd, or set it to 0")
        if self.warmup and self.schedule == "constant":
            raise ValueError("has a warmup, which belongs to schedule cosine: choose that, or set it to 0")
        if self.jit and self.deterministic:
            raise ValueError("has jit and deterministic true: XLA promises no such operations, choose one")
        return self


def build(model: Model, train: Side, how: Train) -> Any:
    """Return an untrained Keras model: (clips, frames, bins) as stored → logits (clips, labels).

    Its first layers normalise, so that whoever loads the model passes features as they are. With `log`
    that is the logarithm of a feature that holds magnitudes; with `log` and `linear` each bin's mean over
    the clips of `train` is subtracted, and the rest divided by the bin's deviation, or by that of the whole
    feature, which leaves the bins' relative spread.

    Raises PipelineError where the model cannot take the feature's shape.
    """
    import keras

    inputs = scaled = keras.Input(train.row_shape, name="feature", dtype="float32")
    log = _logarithmic(train, how)
    if log:
        scaled = keras.ops.log(keras.ops.maximum(scaled, MIN_MAGNITUDE))
    if how.normalize != "none":
        mean, variance = moments(train, log=log)
        if how.scale == "feature":
            variance = np.full_like(variance, variance.mean())
        scaled = keras.layers.Normalization(
            mean=mean, variance=variance, dtype="float32", name="normalization"
        )(scaled)
    name = type(model).__name__.lower()
    keras.config.set_dtype_policy(how.precision)
    try:
        logits = model.logits(scaled, len(train.labels))
    except ValueError as error:
        frames, bins = train.row_shape
        raise PipelineError(
            f"params.yaml: model {name} cannot take a feature of {frames} frames x {bins} bins:"
            f" {str(error).splitlines()[0]}: choose another feature, or another size of the model"
        ) from None
    finally:
        keras.config.set_dtype_policy("float32")
    if how.precision != "float32":
        logits = keras.layers.Activation("linear", dtype="float32", name="logits_float32")(logits)
    return keras.Model(inputs, logits, name=name)


def _logarithmic(train: Side, how: Train) -> bool:
    return bool(how.normalize == "log" and train.store.params["feature"]["magnitudes"])


def moments(side: Side, *, log: bool) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and variance (bins,) of each bin, or of its logarithm, over all frames of all clips."""
    values = rows(side.store)
    total = squares = np.zeros(values.shape[-1])
    for row in side.rows:
        clip = values[row].astype(np.float64)
        if log:
            clip = np.log(np.maximum(clip, MIN_MAGNITUDE))
        total = total + clip.sum(axis=0)
        squares = squares + (clip**2).sum(axis=0)
    frames = len(side.rows) * values.shape[1]
    mean = total / frames
    return mean.astype(np.float32), np.maximum(squares / frames - mean**2, 0).astype(np.float32)


def fit(network: Any, model: Model, sides: tuple[Side, Side], how: Train, logs: Path) -> None:
    """Train `network`, which `build` made of `model`; leave it with the weights of its best epoch on `val`.

    Each epoch's loss and accuracy on both sides go to `logs` (DVCLive: metrics.json, plots/metrics).
    The best epoch's stand under `best` there: the first of highest accuracy or of lowest loss, as
    `how.monitor` says, in the last of the model's phases. It stops where `how.patience` epochs have brought
    nothing better. Losses are mean cross-entropies in nats; those on train are of the clips as they were
    augmented, with their labels smoothed.

    Raises PipelineError where the loss is no longer finite, batches are too small to be split among the
    devices, or machines that train together have different clips or parameters.
    """
    import keras
    from dvclive import Live

    train, val = sides
    strategy = network.distribute_strategy
    if strategy.num_replicas_in_sync > 1:
        _check(strategy, model, sides, how)
        _join(network, strategy)
    steps = math.ceil(len(train.rows) / how.batch_size)
    examples = _distributed(network, partial(training_batches, train, how))
    watched = _distributed(network, partial(_watched_batches, val, how))
    done = 0
    with ExitStack() as stack:
        live = stack.enter_context(Live(str(logs), dvcyaml=False, save_dvc_exp=False))
        live.step = 1  # epochs count from 1, here as in the printed lines
        stack.enter_context(strategy.scope())
        for end, factor in model.phases(network, how.epochs):
            network.compile(
                optimizer=_optimizer(how, steps * (end - done), factor),
                loss=keras.losses.CategoricalCrossentropy(from_logits=True),
                metrics=[keras.metrics.CategoricalAccuracy("accuracy")],
                jit_compile=how.jit,
            )
            stop = keras.callbacks.EarlyStopping(
                f"val_{how.monitor}",
                mode="max" if how.monitor == "accuracy" else "min",
                patience=how.patience,
                restore_best_weights=True,
            )
            log = partial(_log, live, stop, how)
            network.fit(
                examples,
                validation_data=watched,
                initial_epoch=done,
                epochs=end,
                shuffle=False,  # the batches are shuffled
                callbacks=[
                    stop,
                    keras.callbacks.LambdaCallback(on_epoch_end=log),
                    *(_tensorboard(how) if strategy.extended.should_save_summary else []),
                ],
                verbose=1 if sys.stdout.isatty() else 2,
            )
            done = end


def _check(strategy: Any, model: Model, sides: tuple[Side, Side], how: Train) -> None:
    import tensorflow as tf

    devices = strategy.num_replicas_in_sync
    if how.batch_size < 2 * devices:  # fewer, and some last batch could have no clip for one of them
        raise PipelineError(
            f"params.yaml: train.batch_size is {how.batch_size}, must be at least {2 * devices}, two clips"
            f" for each of {devices} devices: raise it, or train on fewer"
        )
    clips = [(side.clips, side.store.checksums[side.rows].tobytes()) for side in sides]
    mine = zlib.crc32(repr((model, how, clips)).encode())
    each = strategy.experimental_distribute_values_from_function(lambda _: tf.constant([mine], tf.int64))
    if len(set(strategy.gather(each, axis=0).numpy())) > 1:
        raise PipelineError(
            "the machines in TF_CONFIG train on different clips or parameters: check out the same commit on"
            " all of them, and run dvc repro there for data/split.csv and the feature"
        )


def _join(network: Any, strategy: Any) -> None:
    """Let the replicas of `network` train as one device does, where Keras alone fails or computes else."""
    import keras

    # A replica's moments would be those of its part of a batch, and what is saved those of the first alone.
    for layer in _layers(network):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True

    # Keras takes the mean of all parts of a batch to learn their shape, which fails where one is longer than
    # another or on another machine; and on several machines that of scalars along their first axis. The
    # scalars are a step's metrics, whose place those of all replicas take at the end of an epoch.
    # TensorFlow itself passes no text as operation.
    whole = strategy.reduce

    def reduce(operation: Any, value: Any, axis: int | None = None) -> Any:
        if operation != "MEAN":
            return whole(operation, value, axis)
        return keras.tree.map_structure(lambda each: strategy.experimental_local_results(each)[0], value)

    strategy.reduce = reduce


def _layers(network: Any) -> Iterator[Any]:
    for layer in network.layers:
        yield layer
        yield from _layers(layer) if hasattr(layer, "layers") else ()


def _distributed(network: Any, dataset: Any) -> Any:
    """Return `dataset()`, or where there are several replicas each one's part of its batches.

    Keras takes the mean of the parts' gradients: where a part has a clip more, its clips count a bit less.
    """
    import tensorflow as tf

    strategy = network.distribute_strategy
    if strategy.num_replicas_in_sync == 1:
        if tf.config.list_logical_devices("GPU"):
            return dataset().apply(tf.data.experimental.prefetch_to_device("/GPU:0", AHEAD))
        return dataset()

    def here(context: Any) -> Any:
        local = context.num_replicas_in_sync // context.num_input_pipelines
        first = context.input_pipeline_id * local
        return dataset(replicas=range(first, first + local), of=context.num_replicas_in_sync)

    return strategy.distribute_datasets_from_function(here)


def _watched_batches(val: Side, how: Train, **part: Any) -> "tf.data.Dataset":
    return batches(val, how.batch_size, cache=how.cache, **part).map(_one_hot(len(val.labels)))


def training_batches(train: Side, how: Train, **part: Any) -> "tf.data.Dataset":
    """Return the batches that a model is trained on: features, one-hot targets, and weights if any.

    Shuffled anew each epoch and augmented anew each time, the same way for the same seed. Targets are
    float32 (clips, labels), smoothed; weights, where classes are balanced, float32 (clips,), of mean 1.
    """
    import tensorflow as tf

    dataset = batches(train, how.batch_size, seed=how.seed, cache=how.cache, **part)
    labels = len(train.labels)
    dataset = dataset.map(_one_hot(labels))
    if any(how.augment.model_dump().values()):
        mean, _ = moments(train, log=_logarithmic(train, how))
        made = train.store.params
        augmentation = Augmentation.of(
            how.augment,
            seconds_per_frame=made["feature"]["hop_length"] / made["audio"]["sample_rate"],
            fill=np.exp(mean) if _logarithmic(train, how) else mean,
        )
        seeds = tf.data.Dataset.random(how.seed, rerandomize_each_iteration=True).batch(2)
        dataset = tf.data.Dataset.zip(dataset, seeds).map(
            lambda batch, seed: augmentation(batch[0], batch[1], seed), num_parallel_calls=AHEAD
        )
    weights = None
    if how.class_weights == "balanced":
        weights = len(train.targets) / labels / np.bincount(train.targets, minlength=labels)

    def finish(values: Any, targets: Any) -> Any:
        weighted = () if weights is None else (tf.linalg.matvec(targets, tf.constant(weights, tf.float32)),)
        return values, targets * (1 - how.label_smoothing) + how.label_smoothing / labels, *weighted

    return dataset.map(finish).prefetch(AHEAD)


def _one_hot(labels: int) -> Any:
    import tensorflow as tf

    return lambda values, targets: (values, tf.one_hot(targets, labels))


def _log(live: Any, stop: Any, how: Train, epoch: int, values: dict[str, float]) -> None:
    if not np.isfinite([values["loss"], values["val_loss"]]).all():
        raise PipelineError(
            f"training diverged in epoch {epoch + 1}: the loss is {values['loss']}, on val"
            f" {values['val_loss']}: lower params.yaml: train.learning_rate, {how.learning_rate:g}"
        )
    for side, prefix in (("train", ""), ("val", "val_")):
        for metric in ("loss", "accuracy"):
            live.log_metric(f"{side}/{metric}", values[prefix + metric])
    if stop.best_epoch == epoch:
        live.summary["best"] = {
            "epoch": epoch + 1,
            "val": {"loss": values["val_loss"], "accuracy": values["val_accuracy"]},
        }
    live.next_step()


def _tensorboard(how: Train) -> list[Any]:
    import keras

    if not how.tensorboard:
        return []
    if importlib.util.find_spec("tensorboard") is None:
        raise PipelineError(
            "params.yaml: train.tensorboard is true, and tensorboard is missing: pip install '.[tensorboard]'"
        )
    return [keras.callbacks.TensorBoard(f"logs/{time.strftime('%Y%m%d-%H%M%S')}", write_graph=False)]


def _optimizer(how: Train, steps: int, factor: float) -> Any:
    import keras

    rate: Any = how.learning_rate * factor
    if how.schedule == "cosine":
        warm = round(how.warmup * steps)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0 if warm else rate,
            max(1, steps - warm),
            warmup_target=rate if warm else None,
            warmup_steps=warm,
        )
    shared = {"global_clipnorm": how.clip_norm, "weight_decay": how.weight_decay or None}
    match how.optimizer:
        case "adam":
            optimizer = keras.optimizers.Adam(rate, **shared)
        case "adamw":
            optimizer = keras.optimizers.AdamW(rate, **shared)
        case "sgd":
            optimizer = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, **shared)
    if how.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def save(model: Any, path: Path) -> None:
    """Write `model` to `path`, a .keras file whose bytes depend on the model alone.

    Keras writes the time into the file's metadata and into the zip around it, and addresses in memory
    into its config, to tell which objects are shared: the one is taken out, the other numbered.
    """
    with replacing(path) as part:
        dated = part.with_suffix(".keras")
        try:
            model.save(dated)
            with zipfile.ZipFile(dated) as old, zipfile.ZipFile(part, "w") as new:
                for name in sorted(old.namelist()):
                    content = old.read(name)
                    if name == "metadata.json":
                        content = json.dumps({**json.loads(content), "date_saved": None}).encode()
                    elif name == "config.json":
                        content = _number_shared_objects(content)
                    new.writestr(zipfile.ZipInfo(name), content)
        finally:
            dated.unlink(missing_ok=True)


def _number_shared_objects(config: bytes) -> bytes:
    numbers: dict[bytes, int] = {}
    return re.sub(
        rb'(?<="shared_object_id": )\d+',
        lambda address: str(numbers.setdefault(address[0], len(numbers) + 1)).encode(),
        config,
    )
