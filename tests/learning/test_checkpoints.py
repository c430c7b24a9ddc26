"""Checkpoints: what they contain, when they are used, and how many are kept."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.learning import checkpoints as checkpoints_module
from pipeline.learning.checkpoints import EPOCHS, TRAININGS, Checkpoint, Checkpoints

CHECKPOINT = Checkpoint(
    {"epoch": 3, "best": [0.5, -0.25]},
    {
        "network": [np.arange(12, dtype=np.float32).reshape(3, 4), np.array(7, np.int64)],
        "best": [np.array([index]) for index in range(12)],
    },
    {"metrics.json": b"{}\n", "plots/metrics/val/loss.tsv": b"step\tloss\n"},
)


@pytest.fixture
def training(tmp_path: Path) -> Iterator[Checkpoints]:
    with Checkpoints(tmp_path / "train") as training:
        training.bind(["one"], 0)
        yield training


def _same(one: Checkpoint, other: Checkpoint) -> bool:
    arrays = [
        [array for name in sorted(checkpoint.arrays) for array in checkpoint.arrays[name]]
        for checkpoint in (one, other)
    ]
    return (one.progress, one.logs, sorted(one.arrays)) == (
        other.progress,
        other.logs,
        sorted(other.arrays),
    ) and all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(*arrays, strict=True))


def test_what_is_saved_is_loaded(training: Checkpoints) -> None:
    """Numbers, arrays of any shape in their order, and the files of the log come back as they were."""
    training.save(3, CHECKPOINT)
    (loaded,) = training.load().values()
    assert _same(loaded, CHECKPOINT)


def test_a_damaged_checkpoint_is_not_used(
    training: Checkpoints, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever byte is changed, and wherever the file is cut, the one before it is used, and that is said."""
    training.save(1, CHECKPOINT)
    training.save(2, CHECKPOINT)
    path = next(tmp_path.rglob("2"))
    whole = path.read_bytes()
    places = np.random.default_rng(0).integers(len(whole), size=60).tolist()
    for place in places[:30]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert list(training.load()) == [1]
    for place in [0, *places[30:]]:
        path.write_bytes(whole[:place])
        assert list(training.load()) == [1]
    assert "is not used: it does not match its checksum" in capsys.readouterr().out
    with pytest.raises(PipelineError):
        Checkpoint.from_bytes(b"")
    path.unlink()
    path.mkdir()
    assert list(training.load()) == [1]
    assert capsys.readouterr().out.endswith(f"{path} is not used: Is a directory\n")


@pytest.mark.parametrize(
    ("parts", "machine"),
    [
        (["one", np.zeros(3, np.float32)], 1),
        (["two", np.zeros(3, np.float32)], 0),
        (["one", np.full(3, 1e-9, np.float32)], 0),
        (["one", np.zeros(3, np.float32), None], 0),
    ],
)
def test_a_checkpoint_is_only_used_by_the_same_training(
    tmp_path: Path, parts: list[Any], machine: int
) -> None:
    """A training with another parameter, another value of an array, or on another machine has none."""
    training = Checkpoints(tmp_path)
    training.bind(["one", np.zeros(3, np.float32)], 0)
    training.save(1, CHECKPOINT)
    training.bind(parts, machine)
    assert training.load() == {}
    training.bind(["one", np.zeros(3, np.float32)], 0)
    assert list(training.load()) == [1]


def test_a_checkpoint_of_other_code_or_libraries_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an edit of the code, or an update of Keras, a training begins from nothing."""
    with Checkpoints(tmp_path) as training:
        training.bind([], 0)
        training.save(1, CHECKPOINT)
    for name, value in (("code_digest", lambda: "other"), ("version", "{}9".format)):
        with monkeypatch.context() as patch:
            patch.setattr(checkpoints_module, name, value)
            with Checkpoints(tmp_path) as other:
                other.bind([], 0)
                assert other.load() == {}
    with Checkpoints(tmp_path) as same:
        same.bind([], 0)
        assert list(same.load()) == [1]


def test_two_processes_never_use_the_same_checkpoints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second and a third process keep nothing and delete nothing. Another training may run beside it."""
    with Checkpoints(tmp_path) as training, Checkpoints(tmp_path) as other:
        training.bind(["one"], 0)
        for _ in range(2):
            with Checkpoints(tmp_path) as second:
                second.bind(["one"], 0)
                assert "another process does the same training" in capsys.readouterr().out
                second.save(1, CHECKPOINT)
                assert second.load() == {}
                second.remove()
        other.bind(["two"], 0)
        training.save(1, CHECKPOINT)
        folder = training._folder
        assert training.epochs() == [1]
    assert list(tmp_path.iterdir()) == [folder]  # the other one has finished no epoch
    with Checkpoints(tmp_path) as third:
        third.bind(["one"], 0)
        assert list(third.load()) == [1]
    assert capsys.readouterr().out == ""


def test_an_error_before_a_training_is_known_deletes_nothing(tmp_path: Path) -> None:
    """If it ends before `bind`, as after a wrong parameter, stopped trainings stay."""
    with Checkpoints(tmp_path) as stopped:
        stopped.bind(["one"], 0)
        stopped.save(1, CHECKPOINT)
    before = {*tmp_path.rglob("*")}
    with pytest.raises(PipelineError), Checkpoints(tmp_path):
        raise PipelineError
    assert {*tmp_path.rglob("*")} == before


def test_a_training_that_runs_keeps_its_checkpoints(tmp_path: Path) -> None:
    """However many trainings stop after it has begun."""
    with Checkpoints(tmp_path) as running:
        running.bind(["running"], 0)
        running.save(1, CHECKPOINT)
        for number in range(TRAININGS + 2):
            with Checkpoints(tmp_path) as stopped:
                stopped.bind([number], 0)
                stopped.save(1, CHECKPOINT)
        assert running.epochs() == [1]
        assert len(list(tmp_path.iterdir())) == TRAININGS + 1


def test_a_training_without_an_epoch_is_deleted(tmp_path: Path) -> None:
    """A training that was killed in its first epoch has nothing to go on from. Those that run stay."""
    with Checkpoints(tmp_path) as running, Checkpoints(tmp_path) as last:
        running.bind(["running"], 0)
        folder = running._folder
        (tmp_path / "killed").mkdir()
        last.bind(["last"], 0)
        assert {*tmp_path.iterdir()} == {folder, last._folder}


def test_few_epochs_and_few_trainings_are_kept(tmp_path: Path) -> None:
    """Of a training the last epochs are kept, and of stopped trainings the last ones."""
    training = Checkpoints(tmp_path / "kept/train")
    for number in range(TRAININGS + 2):
        training.bind([number], 0)
        for epoch in range(1, 13):
            training.save(epoch, CHECKPOINT)
        assert training._folder
        os.utime(training._folder, (number, number))
    assert training.epochs() == list(range(13 - EPOCHS, 13))
    folders = list((tmp_path / "kept/train").iterdir())
    assert len(folders) == TRAININGS
    assert training._folder in folders
    training.remove()
    assert len(list((tmp_path / "kept/train").iterdir())) == TRAININGS - 1


def test_a_finished_training_leaves_nothing(tmp_path: Path) -> None:
    """After the only training is removed, its folder is gone, and those around it if they are empty."""
    training = Checkpoints(tmp_path / "kept/train")
    training.bind([], 0)
    training.save(1, CHECKPOINT)
    training.remove()
    assert not (tmp_path / "kept").exists()


def test_a_checkpoint_that_cannot_be_written_stops_no_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If the folder cannot be made, or is deleted meanwhile, that is printed, and the next one is kept."""
    parent = tmp_path / "train"
    parent.touch()
    training = Checkpoints(parent)
    training.bind([], 0)
    training.save(1, CHECKPOINT)
    assert "the state after epoch 1 is not kept" in capsys.readouterr().out
    parent.unlink()
    training.save(2, CHECKPOINT)
    assert training.epochs() == [2]
