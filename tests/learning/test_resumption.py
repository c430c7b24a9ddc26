"""A training that was stopped goes on, and ends with the bytes of one that was never stopped."""

import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.learning import network, runtime
from pipeline.learning.checkpoints import Checkpoint, Checkpoints
from pipeline.learning.fit import fit
from pipeline.learning.saving import save
from pipeline.learning.settings import Train
from pipeline.learning.teacher import Teacher
from tests.learning.make import (
    LIVELY,
    MODELS,
    NO_NOISE,
    SPEECH,
    make_noisy_subsets,
    make_speech_subsets,
    make_subsets,
)

pytestmark = pytest.mark.tensorflow


class Stopped(Exception):  # noqa: N818 - a signal, not an error
    """Ends a training as if it were killed."""


class Stopping(Checkpoints):
    """Checkpoints of a training that is killed after it has saved one of the epochs `stops`."""

    def __init__(self, parent: Path, stops: tuple[int, ...]) -> None:
        super().__init__(parent)
        self.stops = stops

    def save(self, epoch: int, checkpoint: Checkpoint) -> None:
        super().save(epoch, checkpoint)
        if epoch in self.stops:
            self.stops = tuple(stop for stop in self.stops if stop != epoch)
            raise Stopped


def _train(kind: str, folder: Path, checkpoints: Checkpoints, settings: Train) -> None:
    """Train as the stage does in a new process, and write model.keras and logs to `folder`."""
    import keras

    keras.utils.clear_session()
    runtime.start(settings.seed, precision=settings.precision)
    noise = teacher = None
    model = SPEECH if kind == "phases" else MODELS["rnn" if kind == "patience" else "cnn"]
    if kind == "phases":
        subsets = make_speech_subsets(folder)
    elif kind == "noise":
        subsets, noise = make_noisy_subsets(folder)
    else:
        subsets = make_subsets(folder)
    train, val = subsets["train"], subsets["val"]
    moments = network.measure(train, settings)
    net = network.build(model, train, settings, moments)
    if kind == "teacher":
        other = network.build(MODELS["dscnn"], train, settings, moments)
        other.trainable = False
        teacher = Teacher(other, dataclasses.replace(train))
    with checkpoints:
        fit(
            net,
            model,
            (train, val),
            settings,
            moments=moments,
            logs=folder / "logs",
            teacher=teacher,
            noise=noise,
            checkpoints=checkpoints,
        )
    save(net, folder / "model.keras")


def _digests(folder: Path) -> dict[str, str]:
    files = [folder / "model.keras", *(path for path in (folder / "logs").rglob("*") if path.is_file())]
    return {
        path.relative_to(folder).as_posix(): hashlib.md5(path.read_bytes()).hexdigest()
        for path in sorted(files)
    }


def _settings(kind: str) -> Train:
    settings = LIVELY.model_copy(update={"epochs": 4})
    if kind == "noise":
        noise = NO_NOISE.model_copy(update={"probability": 0.5, "gain": 3.0})
        augment = settings.augment.model_copy(update={"noise": noise})
        return settings.model_copy(update={"augment": augment})
    if kind == "patience":
        changes = {"epochs": 12, "patience": 2, "optimizer": "sgd", "learning_rate": 5.0}
        return settings.model_copy(update={**changes, "monitor": "accuracy"})
    if kind == "half":
        return settings.model_copy(update={"precision": "mixed_float16"})
    return settings.model_copy(update={"normalize": "none"} if kind == "phases" else {})


@pytest.fixture
def _float32() -> Iterator[None]:
    """Undo what a training in half precision changes in this process."""
    yield
    runtime.start(0)
    import keras

    keras.config.set_dtype_policy("float32")


@pytest.mark.usefixtures("_float32")
@pytest.mark.parametrize("kind", ["phases", "teacher", "noise", "patience", "half"])
def test_a_stopped_training_ends_with_the_same_bytes(kind: str, tmp_path: Path) -> None:
    """Model and log have the bytes of an undisturbed training, wherever it was stopped.

    That is so with dropout and every augmentation, with several phases, a teacher, noise, early stopping, and
    in half precision; also if it is stopped after its last epoch, before the model is saved.
    """
    settings = _settings(kind)
    _train(kind, tmp_path / "one", Checkpoints(tmp_path / "unused"), settings)
    expected = _digests(tmp_path / "one")
    last = len((tmp_path / "one/logs/plots/metrics/val/loss.tsv").read_text().splitlines()) - 1
    assert (last < settings.epochs) == (kind == "patience")
    stopping = Stopping(tmp_path / "kept", (1, 3, last))
    for _ in range(3):
        with pytest.raises(Stopped):
            _train(kind, tmp_path / "two", stopping, settings)
    _train(kind, tmp_path / "two", stopping, settings)
    assert stopping.stops == ()
    assert _digests(tmp_path / "two") == expected


def test_a_training_that_goes_on_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It names the epoch. A training with another parameter begins from nothing."""
    stopping = Stopping(tmp_path / "kept", (2, 4))
    settings = _settings("dropout")
    for _ in range(2):
        with pytest.raises(Stopped):
            _train("dropout", tmp_path / "one", stopping, settings)
    assert "training goes on after epoch 2\n" in capsys.readouterr().out
    other = Checkpoints(tmp_path / "kept")
    _train("dropout", tmp_path / "two", other, settings.model_copy(update={"learning_rate": 0.02}))
    assert "goes on" not in capsys.readouterr().out


def test_an_interrupted_training_says_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message of a KeyboardInterrupt names the last epoch that is finished."""
    monkeypatch.setattr(Stopping, "save", _interrupt_after_2)
    with pytest.raises(KeyboardInterrupt, match="the training is kept up to epoch 2"):
        _train("dropout", tmp_path / "one", Stopping(tmp_path / "kept", ()), _settings("dropout"))


def _interrupt_after_2(self: Checkpoints, epoch: int, checkpoint: Checkpoint) -> None:
    Checkpoints.save(self, epoch, checkpoint)
    if epoch == 2:
        raise KeyboardInterrupt


def test_a_damaged_checkpoint_gives_the_same_bytes(tmp_path: Path) -> None:
    """If the last checkpoint is damaged, training goes on from the one before, or from nothing."""
    settings = _settings("dropout")
    _train("dropout", tmp_path / "one", Checkpoints(tmp_path / "unused"), settings)
    for number, damaged in enumerate((["3"], ["2", "3"])):
        folder, kept = tmp_path / f"two{number}", tmp_path / f"kept{number}"
        stopping = Stopping(kept, (3,))
        with pytest.raises(Stopped):
            _train("dropout", folder, stopping, settings)
        for name in damaged:
            (path,) = kept.rglob(name)
            content = np.frombuffer(path.read_bytes(), np.uint8).copy()
            content[len(content) // 2] ^= 1
            path.write_bytes(content.tobytes())
        _train("dropout", folder, stopping, settings)
        assert _digests(folder) == _digests(tmp_path / "one")
