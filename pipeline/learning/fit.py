"""Train a network: batches, augmentation, optimiser, early stopping, and the best epoch."""

import dataclasses
import importlib.util
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import PipelineError
from pipeline.learning.batches import AHEAD, Subset, batches
from pipeline.learning.checkpoints import Checkpoint, Checkpoints
from pipeline.learning.network import Moments
from pipeline.learning.noise import Noise, add_noise
from pipeline.learning.preparation import Preparation, prepare
from pipeline.learning.resumption import Resumption, count_reads, determinants
from pipeline.learning.settings import Train, divergence_advice
from pipeline.learning.teacher import Teacher
from pipeline.learning.trainee import trainee
from pipeline.models import Model

if TYPE_CHECKING:
    import tensorflow as tf


def fit(
    network: Any,
    model: Model,
    subsets: tuple[Subset, Subset],
    settings: Train,
    *,
    moments: Moments,
    logs: Path,
    teacher: Teacher | None = None,
    noise: Noise | None = None,
    checkpoints: Checkpoints | None = None,
) -> float:
    """Train `network`, leave it with the weights of its best epoch, and return the seconds that it took.

    The best epoch is the one with the highest accuracy on `val`, and of equal ones that with the lowest loss,
    or the one with the lowest loss, as `settings.monitor` says. It is an epoch of the model's last phase.
    After `settings.patience` epochs without a better one, a phase ends early. Losses are mean cross-entropies
    in nats. On `train` they are of augmented clips with smoothed labels, and with the teacher's share in
    these.

    Args:
        network: what `pipeline.learning.network.build` made of `model`.
        model: the model.
        subsets: the clips to train on, and those to choose the best epoch by: `train` and `val`.
        settings: the section `train` of params.yaml.
        moments: of `train`.
        logs: the folder that DVCLive writes to: each epoch's loss and accuracy on both subsets, and the best
            epoch's under `best` in metrics.json.
        teacher: whose outputs the network learns from.
        noise: to add to the training clips.
        checkpoints: keeps the state of the training after each epoch. If it has one of the same training,
            which was stopped, training goes on from there, with the same result.

    Raises:
        PipelineError: the feature cannot be computed from noisy waveforms, the loss is not finite, batches
            are too small to be split among the devices, or machines that train together have different clips
            or parameters.
    """
    import keras
    from dvclive import Live

    train, val = subsets
    strategy = network.distribute_strategy
    trained = network
    with strategy.scope():
        preparation = prepare(train, settings, moments, teacher=teacher, noise=noise)
        if teacher is not None or noise is not None:
            trained = trainee(
                network,
                teacher.network if teacher is not None else None,
                settings.teacher_weight,
                preparation=preparation if noise is not None else None,
            )
    restored = None
    if checkpoints is not None:
        parts = determinants(network, model, subsets, settings, teacher=teacher, noise=noise)
        restored = _restored(checkpoints, parts, strategy)
    train_batches = partial(training_batches, train, settings, preparation, teacher=teacher, noise=noise)
    val_batches = partial(validation_batches, val, settings)
    if strategy.num_replicas_in_sync > 1:
        from pipeline.learning import replicas

        replicas.prepare(network, model, subsets, settings)
        inputs = replicas.distribute(network, train_batches)
        watched = replicas.distribute(network, val_batches)
    else:
        inputs, watched = _on_device(train_batches()), _on_device(val_batches())
    steps = math.ceil(len(train.rows) / settings.batch_size)
    inputs = count_reads(inputs)
    resumption = Resumption(checkpoints, restored, logs, inputs)
    done = 0
    with ExitStack() as stack:
        stack.enter_context(_interruptible(resumption))
        live = stack.enter_context(
            Live(str(logs), resume=restored is not None, dvcyaml=False, save_dvc_exp=False)
        )
        live.step = resumption.epochs + 1  # count epochs from 1, as the printed lines do
        stack.enter_context(strategy.scope())
        for phase, (end, factor) in enumerate(model.phases(network, settings.epochs)):
            begin, done = done, end
            trained.compile(
                optimizer=_optimizer(settings, steps * (end - begin), factor),
                loss=keras.losses.CategoricalCrossentropy(from_logits=True),
                metrics=[keras.metrics.CategoricalAccuracy("accuracy")],
                jit_compile=settings.jit,
            )
            first = resumption.first_epoch(phase, begin)
            if first is None:
                continue
            stop = keras.callbacks.EarlyStopping(
                "val_rank",
                mode="max",
                patience=settings.patience,
                restore_best_weights=True,
            )
            ranking = _Ranking(settings)
            log = partial(_log, live, stop, settings)
            trained.fit(
                inputs,
                validation_data=watched,
                initial_epoch=first,
                epochs=end,
                shuffle=False,  # the batches are shuffled
                callbacks=[
                    keras.callbacks.LambdaCallback(on_epoch_end=ranking),
                    stop,
                    keras.callbacks.LambdaCallback(on_epoch_end=log),
                    *resumption.callbacks(trained, stop, ranking, phase=phase, end=end),
                    *(_tensorboard(settings) if strategy.extended.should_save_summary else []),
                ],
                verbose=1 if sys.stdout.isatty() else 2,
            )
    return resumption.seconds


def _restored(checkpoints: Checkpoints, parts: Sequence[Any], strategy: Any) -> tuple[int, Checkpoint] | None:
    """Return the last epoch of which every machine has a checkpoint, and the checkpoint, or None."""
    import tensorflow as tf

    several = strategy.num_replicas_in_sync > 1
    machine = strategy.cluster_resolver.task_id if several and strategy.cluster_resolver else 0
    devices = [device.device_type for device in tf.config.list_logical_devices()]
    checkpoints.bind([*parts, strategy.num_replicas_in_sync, devices], machine)
    found = checkpoints.load()
    epochs = set(found)
    if several:
        from pipeline.learning import replicas

        epochs = replicas.common(strategy, epochs)
    if not epochs:
        return None
    print(f"training goes on after epoch {max(epochs)}", flush=True)
    return max(epochs), found[max(epochs)]


@contextmanager
def _interruptible(resumption: Resumption) -> Iterator[None]:
    """Say in the message of a KeyboardInterrupt how many epochs are kept, if any."""
    try:
        yield
    except KeyboardInterrupt:
        if resumption.kept is None:
            raise
        raise KeyboardInterrupt(f"the training is kept up to epoch {resumption.kept}") from None


def training_batches(
    train: Subset,
    settings: Train,
    preparation: Preparation,
    *,
    teacher: Teacher | None = None,
    noise: Noise | None = None,
    **part: Any,
) -> "tf.data.Dataset":
    """Return the batches that a network is trained on: what `preparation` returns.

    Clips are shuffled and augmented again in each epoch, the same way for the same seed. With noise, batches
    are instead noisy waveforms (clips, samples) with a seed, and one-hot targets; a training step then calls
    `preparation.from_waveforms`, on the device that trains. `part` is passed to `batches`.
    """
    import tensorflow as tf

    def read(subset: Subset) -> Any:
        dataset = batches(subset, settings.batch_size, seed=settings.seed, cache=settings.cache, **part)
        return dataset.map(_one_hot(len(train.labels)))

    seeds = tf.data.Dataset.random(settings.seed, rerandomize_each_iteration=True).batch(2)
    if noise is not None:
        add = add_noise(settings.augment.noise, noise.pieces)
        dataset = tf.data.Dataset.zip(read(dataclasses.replace(train, store=noise.waveforms)), seeds).map(
            lambda batch, seed: ((add(batch[0], seed), seed), batch[1]), num_parallel_calls=AHEAD
        )
    else:
        # Both are shuffled by the same seed.
        subsets = [train, *([teacher.train] if teacher is not None else [])]
        dataset = tf.data.Dataset.zip(*map(read, subsets), seeds).map(
            lambda *parts: preparation([values for values, _ in parts[:-1]], parts[0][1], parts[-1]),
            num_parallel_calls=AHEAD,
        )
    return dataset.prefetch(AHEAD)


def validation_batches(val: Subset, settings: Train, **part: Any) -> "tf.data.Dataset":
    """Return features (clips, frames, bins) and one-hot targets (clips, labels), in the store's order.

    `part` is passed to `batches`.
    """
    return batches(val, settings.batch_size, cache=settings.cache, **part).map(_one_hot(len(val.labels)))


def _on_device(dataset: Any) -> Any:
    import tensorflow as tf

    if tf.config.list_logical_devices("GPU"):
        return dataset.apply(tf.data.experimental.prefetch_to_device("/GPU:0", AHEAD))
    return dataset


def _one_hot(labels: int) -> Any:
    import tensorflow as tf

    return lambda values, targets: (values, tf.one_hot(targets, labels))


class _Ranking:
    """Adds `val_rank` to the values of an epoch: it is higher than before if the epoch is the best so far."""

    def __init__(self, settings: Train) -> None:
        self._settings = settings
        self.best = (-math.inf, -math.inf)
        self.rank = 0

    def __call__(self, _epoch: int, values: dict[str, float]) -> None:
        accuracy = values["val_accuracy"] if self._settings.monitor == "accuracy" else 0.0
        candidate = (accuracy, -values["val_loss"])
        if candidate > self.best:
            self.best, self.rank = candidate, self.rank + 1
            values["val_rank"] = self.rank
        else:
            values["val_rank"] = 0


def _log(live: Any, stop: Any, settings: Train, epoch: int, values: dict[str, float]) -> None:
    if not np.isfinite([values["loss"], values["val_loss"]]).all():
        raise PipelineError(
            f"training diverged in epoch {epoch + 1}: the loss is {values['loss']} on train and"
            f" {values['val_loss']} on val: {divergence_advice(settings)}"
        )
    for subset, prefix in (("train", ""), ("val", "val_")):
        for metric in ("loss", "accuracy"):
            live.log_metric(f"{subset}/{metric}", values[prefix + metric])
    if stop.best_epoch == epoch:
        live.summary["best"] = {
            "epoch": live.step,
            "val": {"loss": values["val_loss"], "accuracy": values["val_accuracy"]},
        }
    live.next_step()
    values.pop("val_rank")  # or Keras would print it


def _tensorboard(settings: Train) -> list[Any]:
    import keras

    if not settings.tensorboard:
        return []
    if importlib.util.find_spec("tensorboard") is None:
        raise PipelineError(
            "params.yaml: train.tensorboard is true, but tensorboard is not installed:"
            " pip install '.[tensorboard]'"
        )
    return [keras.callbacks.TensorBoard(f"logs/{time.strftime('%Y%m%d-%H%M%S')}", write_graph=False)]


def _optimizer(settings: Train, steps: int, factor: float) -> Any:
    import keras

    rate: Any = settings.learning_rate * factor
    if settings.schedule == "cosine":
        warm = round(settings.warmup * steps)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0 if warm else rate,
            max(1, steps - warm),
            warmup_target=rate if warm else None,
            warmup_steps=warm,
        )
    shared = {"global_clipnorm": settings.clip_norm, "weight_decay": settings.weight_decay or None}
    match settings.optimizer:
        case "adam":
            optimizer = keras.optimizers.Adam(rate, **shared)
        case "adamw":
            optimizer = keras.optimizers.AdamW(rate, **shared)
        case "sgd":
            optimizer = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, **shared)
    if settings.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer
