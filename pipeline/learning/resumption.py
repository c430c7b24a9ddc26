"""Save the state of a training after each epoch, and go on from there in the training that follows.

Besides the variables of network and optimiser, a training depends on what its callbacks remember, and on how
often its batches were iterated.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.learning.batches import Subset
from pipeline.learning.checkpoints import Checkpoint, Checkpoints
from pipeline.learning.noise import Noise
from pipeline.learning.settings import Train
from pipeline.learning.teacher import Teacher
from pipeline.models import Model


def determinants(
    network: Any,
    model: Model,
    subsets: Sequence[Subset],
    settings: Train,
    *,
    teacher: Teacher | None,
    noise: Noise | None,
) -> list[Any]:
    """Return what a training depends on, as `Checkpoints.bind` takes it.

    `network` is not trained yet. Its weights depend on the seed, on files of weights, and on the moments.
    """
    stores = [(subset.store, subset) for subset in subsets]
    parts: list[Any] = [type(model).__name__, model, settings.with_effect(), *network.get_weights()]
    if teacher is not None:
        parts += teacher.network.get_weights()
        stores.append((teacher.train.store, subsets[0]))
    if noise is not None:
        parts.append(noise.pieces)
        stores.append((noise.waveforms, subsets[0]))
    for store, subset in stores:
        parts += [subset.labels, subset.rows, subset.targets, store.params, store.checksums[subset.rows]]
    return parts


def count_reads(dataset: Any) -> Any:
    """Return `dataset`, whose attribute `reads` then says how often it was iterated.

    Each time, it shuffles and augments the clips in another way. Keras iterates it once or twice in an epoch.
    """
    kind: Any = type(dataset)

    class Counted(kind):  # type: ignore[misc]
        reads = 0

        def __iter__(self) -> Any:
            self.reads += 1
            return super().__iter__()

    dataset.__class__ = Counted
    return dataset


class Resumption:
    """Saves and restores the state of one training.

    Args:
        checkpoints: where the states are, or None to save nothing.
        restored: the epochs that are finished and the state after them, or None for a new training.
        logs: the folder that DVCLive writes to.
        dataset: the training batches, which `count_reads` has returned.
    """

    def __init__(
        self,
        checkpoints: Checkpoints | None,
        restored: tuple[int, Checkpoint] | None,
        logs: Path,
        dataset: Any,
    ) -> None:
        self.epochs = 0  # that are finished
        self._checkpoints = checkpoints
        self._logs = logs
        self._dataset = dataset
        self._restored: Checkpoint | None = None
        self._start = time.monotonic()
        if restored is not None:
            self.epochs, self._restored = restored
            self._start -= self._restored.progress["seconds"]
            for name, content in self._restored.logs.items():
                path = logs / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)

    @property
    def kept(self) -> int | None:
        """The last epoch after which the state is kept, if any."""
        return max(self._checkpoints.epochs(), default=None) if self._checkpoints is not None else None

    @property
    def seconds(self) -> float:
        """How long the training has taken until now, without the time in which it was stopped."""
        return time.monotonic() - self._start

    def first_epoch(self, phase: int, epoch: int) -> int | None:
        """Return the epoch from which `phase` goes on, which begins at `epoch`. None: it is finished."""
        if self._restored is None:
            return epoch
        restored = self._restored.progress
        return None if restored["phase"] > phase else int(restored["epoch"])

    def callbacks(self, trained: Any, stop: Any, ranking: Any, *, phase: int, end: int) -> list[Any]:
        """Return callbacks that restore the state before a phase, and save it after each epoch of it.

        They must come after those that they save: `stop` and `ranking`.

        Args:
            trained: the Keras model that is trained, compiled.
            stop: the callback EarlyStopping.
            ranking: an object with the attributes `best` and `rank`.
            phase: the number of the phase.
            end: its last epoch.
        """
        import keras

        def begin(_logs: Any) -> None:
            restored, self._restored = self._restored, None
            if restored is None:
                return
            while self._dataset.reads < restored.progress["reads"]:
                iter(self._dataset)  # draws the next order of the clips, and reads none
            trained.optimizer.build(trained.trainable_variables)
            _assign(trained.variables, restored.arrays["network"])
            _assign(trained.optimizer.variables, restored.arrays["optimizer"])
            stop.best_weights = restored.arrays["best"]
            for name in ("best", "best_epoch", "wait"):
                setattr(stop, name, restored.progress[name])
            ranking.best, ranking.rank = tuple(restored.progress["candidate"]), restored.progress["rank"]

        def save(epoch: int, _values: Any) -> None:
            self.epochs += 1
            if self._checkpoints is None:
                return
            progress = {
                "phase": phase,
                # A phase that ended early has no more epochs.
                "epoch": end if trained.stop_training else epoch + 1,
                "reads": self._dataset.reads,
                "seconds": self.seconds,
                "best": stop.best,
                "best_epoch": stop.best_epoch,
                "wait": stop.wait,
                "candidate": ranking.best,
                "rank": ranking.rank,
            }
            arrays = {
                "network": [variable.numpy() for variable in trained.variables],
                "optimizer": [variable.numpy() for variable in trained.optimizer.variables],
                "best": stop.best_weights,
            }
            logs = {
                path.relative_to(self._logs).as_posix(): path.read_bytes()
                for path in sorted(self._logs.rglob("*"))
                if path.is_file()
            }
            self._checkpoints.save(self.epochs, Checkpoint(progress, arrays, logs))

        return [keras.callbacks.LambdaCallback(on_train_begin=begin, on_epoch_end=save)]


def _assign(variables: Sequence[Any], values: Sequence[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
