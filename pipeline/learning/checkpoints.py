"""Keep the state of a training after each epoch, so that it goes on if it is stopped.

The checkpoints are in data/kept/train, which is no output of any stage. You may delete them at any time. A
checkpoint is used only by a training that computes the same: with the same parameters, data, code, libraries
and number of devices. It then ends with the same bytes as a training that was never stopped.
"""

import fcntl
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from pipeline.files import atomic_write
from pipeline.store.layout import digests
from pipeline.store.previous import FOLDER as KEPT
from pipeline.store.previous import code_digest

FOLDER = KEPT / "train"
# How many stopped trainings are kept. If there are more, the oldest are deleted.
TRAININGS = 3
# How many epochs of a training are kept. If machines train together, one may have finished an epoch more
# than another.
EPOCHS = 2
LIBRARIES = ("keras", "numpy", "tensorflow")
DIGEST_BYTES = 16
LOCK = ".lock"
PROGRESS, LOGS = "progress", "logs"


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after an epoch."""

    progress: dict[str, Any]  # numbers, as JSON
    arrays: dict[str, list[NDArray[Any]]]  # by name, such as `network`: the values of its variables
    logs: dict[str, bytes]  # the files of the log, by their paths in its folder

    def to_bytes(self) -> bytes:
        """Return the checkpoint as bytes: a digest, and the .npz file that it is the digest of."""
        arrays = {
            f"{name}/{index}": array for name in self.arrays for index, array in enumerate(self.arrays[name])
        }
        texts = {PROGRESS: json.dumps(self.progress).encode()}
        texts |= {f"{LOGS}/{name}": content for name, content in self.logs.items()}
        file = io.BytesIO()
        np.savez(file, **arrays, **{name: np.frombuffer(text, np.uint8) for name, text in texts.items()})  # type: ignore[arg-type]
        return bytes(digests([file.getvalue()])[0].tobytes() + file.getvalue())

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the checkpoint in `data`. Raises PipelineError if it is damaged."""
        digest, content = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
        if digests([content])[0].tobytes() != digest:
            raise PipelineError("it does not match its checksum")
        arrays: dict[str, list[NDArray[Any]]] = {}
        logs = {}
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            progress = json.loads(file[PROGRESS].tobytes())
            for name in file.files:
                group, _, rest = name.partition("/")
                if group == LOGS:
                    logs[rest] = file[name].tobytes()
                elif group != PROGRESS:
                    arrays.setdefault(group, []).append(file[name])
        return cls(progress, arrays, logs)


class Checkpoints:
    """The checkpoints of one training.

    Create it when the stage begins: it remembers the code as it is then, and the code may be edited while
    the stage runs. Then call `bind` to say what is trained. Until the end of the `with` block, no other
    process uses the same checkpoints.
    """

    def __init__(self, parent: Path) -> None:
        self._parent = parent
        self._code = code_digest()
        self._folder: Path | None = None  # before `bind`, or if another process does the same training
        self._lock: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.epochs():
            self.remove()
        self._unbind()

    def _unbind(self) -> None:
        self._folder = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def bind(self, parts: Iterable[Any], machine: int) -> None:
        """Use the checkpoints of the training that `parts` determine, and delete those of old trainings.

        If another process does the same training at this moment, that is printed, and there are none.

        Args:
            parts: arrays, and objects whose `repr` says all about them.
            machine: the number of this machine, if several train together.
        """
        digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        for part in (self._code, [version(library) for library in LIBRARIES], machine, *parts):
            content = np.ascontiguousarray(part).data if isinstance(part, np.ndarray) else repr(part).encode()
            digest.update(hashlib.blake2b(content).digest())
        self._unbind()
        folder = self._parent / digest.hexdigest()
        try:
            self._lock = _lock(folder)
        except BlockingIOError:
            print(
                f"another process does the same training, so this one keeps no state in {self._parent}",
                flush=True,
            )
            return
        except OSError:
            pass  # `save` says why nothing can be kept; or the file system has no locks
        self._folder = folder
        self._delete_old()

    def _delete_old(self) -> None:
        with suppress(OSError):  # somebody deletes them at this moment
            others = [folder for folder in self._parent.iterdir() if folder != self._folder]
            others.sort(key=lambda folder: folder.stat().st_mtime)
            stopped = [folder for folder in others if _epochs(folder)]
            for old in [*(set(others) - {*stopped}), *stopped[: 1 - TRAININGS]]:
                with suppress(OSError):  # another process trains it now
                    lock = _lock(old)
                    shutil.rmtree(old, ignore_errors=True)
                    os.close(lock)

    def epochs(self) -> list[int]:
        """Return the epochs after which there is a checkpoint, in rising order."""
        return _epochs(self._folder) if self._folder is not None else []

    def load(self) -> dict[int, Checkpoint]:
        """Return all checkpoints by their epochs. One that is damaged is left out, and named."""
        checkpoints: dict[int, Checkpoint] = {}
        if self._folder is None:
            return checkpoints
        for epoch in self.epochs():
            path = self._folder / str(epoch)
            try:
                checkpoints[epoch] = Checkpoint.from_bytes(path.read_bytes())
            except (OSError, PipelineError) as error:
                print(f"{path} is not used: {getattr(error, 'strerror', None) or error}", flush=True)
        return checkpoints

    def save(self, epoch: int, checkpoint: Checkpoint) -> None:
        """Keep the checkpoint after `epoch`, and delete those that are no longer needed.

        If it cannot be written, that is printed, and training goes on.
        """
        if self._folder is None:
            return
        try:
            with atomic_write(self._folder / str(epoch)) as part, part.open("wb") as file:
                file.write(checkpoint.to_bytes())
                file.flush()
                os.fsync(file.fileno())
            for old in self.epochs()[:-EPOCHS]:
                (self._folder / str(old)).unlink(missing_ok=True)
        except OSError as error:  # somebody has deleted the folder, or the disk is full
            print(
                f"the state after epoch {epoch} is not kept in {self._folder}: {error.strerror}", flush=True
            )

    def remove(self) -> None:
        """Delete the checkpoints of this training."""
        if self._folder is None:
            return
        shutil.rmtree(self._folder, ignore_errors=True)
        for folder in (self._parent, self._parent.parent):
            with suppress(OSError):  # there is something else in it
                folder.rmdir()


def _epochs(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdecimal())


def _lock(folder: Path) -> int:
    """Lock `folder` for this process, and return the descriptor that holds the lock until it is closed.

    When a process dies, the system removes its locks. Raises BlockingIOError if another process has the lock.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise
        if os.fstat(lock).st_nlink:
            return lock
        os.close(lock)  # another process has deleted the folder before it was locked
