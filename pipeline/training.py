"""Trains a model on one side of the split, watches it on another, and saves its best epoch."""

import json
import re
import sys
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.errors import PipelineError
from pipeline.files import replacing
from pipeline.models import Model
from pipeline.params import Section
from pipeline.readers import Side, batches
from pipeline.store.reader import rows

# Magnitudes below this count as this before the logarithm: 62 dB below those of a full-scale sine in a
# frame of 512 samples, which leaves most of a recording's noise out.
MIN_MAGNITUDE = 0.1


class Train(Section):
    """`train`: how a model is trained."""

    normalize: Literal["log", "linear", "none"]
    scale: Literal["feature", "bin"]
    seed: int = Field(ge=0)
    batch_size: int = Field(ge=1)
    epochs: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    monitor: Literal["accuracy", "loss"]
    patience: int = Field(ge=1)


def build(model: Model, train: Side, how: Train) -> Any:
    """Return an untrained Keras model: (clips, frames, bins) as stored → logits (clips, labels).

    Its first layers normalise, so that whoever loads the model passes features as they are. With `log`
    that is the logarithm of a feature that holds magnitudes; with `log` and `linear` each bin's mean over
    the clips of `train` is subtracted, and the rest divided by the bin's deviation, or by that of the whole
    feature, which leaves the bins' relative spread.

    Raises PipelineError where the model cannot take the feature's shape.
    """
    import keras

    inputs = scaled = keras.Input(train.row_shape, name="feature")
    log = how.normalize == "log" and train.store.params["feature"]["magnitudes"]
    if log:
        scaled = keras.ops.log(keras.ops.maximum(scaled, MIN_MAGNITUDE))
    if how.normalize != "none":
        mean, variance = moments(train, log=log)
        if how.scale == "feature":
            variance = np.full_like(variance, variance.mean())
        scaled = keras.layers.Normalization(mean=mean, variance=variance, name="normalization")(scaled)
    name = type(model).__name__.lower()
    try:
        logits = model.logits(scaled, len(train.labels))
    except ValueError as error:
        frames, bins = train.row_shape
        raise PipelineError(
            f"params.yaml: model {name} cannot take a feature of {frames} frames x {bins} bins:"
            f" {str(error).splitlines()[0]}: choose another feature, or a smaller model"
        ) from None
    return keras.Model(inputs, logits, name=name)


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


def fit(model: Any, train: Side, val: Side, how: Train, logs: Path) -> None:
    """Train `model` with Adam and leave it with the weights of its best epoch on `val`.

    Each epoch's loss and accuracy on both sides go to `logs` (DVCLive: metrics.json, plots/metrics).
    The best epoch's stand under `best` there: the first of highest accuracy or of lowest loss, as
    `how.monitor` says. It stops where `how.patience` epochs have brought nothing better.

    Raises PipelineError where the loss is no longer finite.
    """
    import keras
    from dvclive import Live

    model.compile(
        optimizer=keras.optimizers.Adam(how.learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    stop = keras.callbacks.EarlyStopping(
        f"val_{how.monitor}",
        mode="max" if how.monitor == "accuracy" else "min",
        patience=how.patience,
        restore_best_weights=True,
    )
    with Live(str(logs), dvcyaml=False, save_dvc_exp=False) as live:
        live.step = 1  # epochs count from 1, here as in the printed lines

        def log(epoch: int, values: dict[str, float]) -> None:
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

        model.fit(
            batches(train, how.batch_size, seed=how.seed),
            validation_data=batches(val, how.batch_size),
            epochs=how.epochs,
            shuffle=False,  # the batches are shuffled
            callbacks=[stop, keras.callbacks.LambdaCallback(on_epoch_end=log)],
            verbose=1 if sys.stdout.isatty() else 2,
        )


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
