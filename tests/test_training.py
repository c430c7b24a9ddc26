import dataclasses
import hashlib
import json
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest

from pipeline import readers, runtime, training
from pipeline.errors import PipelineError
from pipeline.files import write_csv
from pipeline.models import Model
from pipeline.models.cnn import Cnn
from pipeline.models.rnn import Rnn
from pipeline.readers import Side
from pipeline.store import reader
from pipeline.store.layout import Rows
from pipeline.training import Train
from tests.conftest import ROOT
from tests.store.make import make_store

pytestmark = pytest.mark.tensorflow

FRAMES, BINS = 12, 10
TRAIN = Train(
    seed=0,
    normalize="log",
    scale="bin",
    batch_size=16,
    epochs=12,
    learning_rate=0.01,
    monitor="loss",
    patience=3,
)
MODELS = [Rnn(units=8, dropout=0.1), Cnn(filters=[4, 4], pool=[2, 2], units=8, dropout=0.1)]


def _rows() -> Rows:
    """Clips of two labels: a burst in the lower bins or in the upper, at a random time, bins far apart."""
    rows = np.zeros((120, FRAMES, BINS), np.float32)
    for number, row in enumerate(rows):
        generator = np.random.default_rng(number)
        row[:] = generator.normal(size=(FRAMES, BINS))
        frame, low = generator.integers(2, FRAMES - 2), 0 if number < 60 else BINS // 2
        row[frame - 2 : frame + 2, low : low + BINS // 2] += 3
    return rows * np.logspace(-3, 3, BINS, dtype=np.float32) + 5


def make_sides(folder: Path) -> dict[str, Side]:
    clips = [f"{'no' if n < 60 else 'yes'}/{n:03}" for n in range(120)]
    make_store(folder / "f.h5", _rows(), clips=clips, params={"feature": {"name": "x", "magnitudes": False}})
    names = ["train", "train", "train", "val", "test"]
    write_csv(folder / "s.csv", ["clip", "split"], ((clip, names[n % 5]) for n, clip in enumerate(clips)))
    return {name: readers.side(name, store=folder / "f.h5", split=folder / "s.csv") for name in set(names)}


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Side]:
    return make_sides(tmp_path_factory.mktemp("sides"))


class Trained(NamedTuple):
    model: Model
    network: Any
    folder: Path


@pytest.fixture(scope="module", params=MODELS, ids=["rnn", "cnn"])
def trained(
    request: pytest.FixtureRequest, sides: dict[str, Side], tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    """Each model, trained and saved."""
    folder = tmp_path_factory.mktemp("trained")
    return Trained(request.param, train_and_save(request.param, sides, folder), folder)


def train_and_save(model: Model, sides: dict[str, Side], folder: Path, how: Train = TRAIN) -> Any:
    runtime.start(how.seed)
    network = training.build(model, sides["train"], how)
    training.fit(network, sides["train"], sides["val"], how, folder / "logs")
    training.save(network, folder / "model.keras")
    return network


def test_moments_are_those_of_the_training_clips(sides: dict[str, Side]) -> None:
    """Mean and variance by bin are NumPy's over the training clips alone."""
    values = _rows()[sides["train"].rows].astype(np.float64)
    mean, variance = training.moments(sides["train"], log=False)
    np.testing.assert_allclose(mean, values.mean(axis=(0, 1)), rtol=1e-5)
    np.testing.assert_allclose(variance, values.var(axis=(0, 1)), rtol=1e-4)


def test_the_normalisation_is_inside_the_saved_model(trained: Trained, sides: dict[str, Side]) -> None:
    """The loaded model takes features as stored, scales each bin itself, and gives the same logits."""
    import keras

    loaded = keras.models.load_model(trained.folder / "model.keras")
    values = _rows()
    logits = loaded.predict(values, verbose=0)
    np.testing.assert_array_equal(logits, trained.network.predict(values, verbose=0))
    scaled = np.asarray(loaded.get_layer("normalization")(values[sides["train"].rows]))
    np.testing.assert_allclose(scaled.mean(axis=(0, 1)), 0, atol=1e-2)
    np.testing.assert_allclose(scaled.std(axis=(0, 1)), 1, atol=1e-2)


def test_a_model_learns_and_returns_logits(trained: Trained) -> None:
    """On separable clips the validation accuracy exceeds 0.85; outputs are logits, not probabilities."""
    best = json.loads((trained.folder / "logs" / "metrics.json").read_text())["best"]
    assert best["val"]["accuracy"] > 0.85
    logits = trained.network.predict(_rows(), verbose=0)
    assert logits.shape == (120, 2)
    assert logits.min() < 0


def test_the_saved_file_holds_no_date(trained: Trained) -> None:
    """Neither the zip's entries nor Keras's metadata tell when the model was saved; nothing lies beside."""
    with zipfile.ZipFile(trained.folder / "model.keras") as file:
        assert {info.date_time for info in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert json.loads(file.read("metadata.json"))["date_saved"] is None
    assert sorted(path.name for path in trained.folder.iterdir()) == ["logs", "model.keras"]


@pytest.mark.parametrize(("monitor", "best_of"), [("loss", min), ("accuracy", max)])
def test_the_best_epoch_is_kept(
    sides: dict[str, Side],
    tmp_path: Path,
    monitor: Literal["loss", "accuracy"],
    best_of: Callable[[list[float]], float],
) -> None:
    """The saved weights are those of the first epoch of lowest loss, or highest accuracy, on val."""
    import keras

    how = TRAIN.model_copy(update={"monitor": monitor})
    network = train_and_save(MODELS[0], sides, tmp_path, how)
    curve = (tmp_path / f"logs/plots/metrics/val/{monitor}.tsv").read_text().splitlines()[1:]
    values = [float(line.split("\t")[1]) for line in curve]
    best = json.loads((tmp_path / "logs" / "metrics.json").read_text())["best"]
    assert len(set(values)) > 1
    assert best["epoch"] == values.index(best_of(values)) + 1
    assert best["val"][monitor] == best_of(values)
    network.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    scores = network.evaluate(readers.batches(sides["val"], 16), return_dict=True, verbose=0)
    assert scores == pytest.approx(best["val"], rel=1e-5)


@pytest.mark.parametrize("model", MODELS, ids=["rnn", "cnn"])
def test_training_twice_gives_the_same_bytes(model: Model, tmp_path: Path) -> None:
    """Two processes, a while apart, write the same model, metrics and curves, byte for byte."""
    code = """if True:
        import sys
        from pathlib import Path
        from tests import test_training as t
        folder = Path(sys.argv[1])
        how = t.TRAIN.model_copy(update={"epochs": 2})
        t.train_and_save(t.MODELS[int(sys.argv[2])], t.make_sides(folder), folder, how)
    """
    digests = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        number = str(MODELS.index(model))
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name), number], cwd=ROOT, check=True)
        digests.append(
            {
                path.relative_to(tmp_path / name): hashlib.md5(path.read_bytes()).hexdigest()
                for path in sorted((tmp_path / name).rglob("*"))
                if path.is_file()
            }
        )
        time.sleep(2)  # as much as a zip's clock can tell apart
    assert digests[0] == digests[1]
    assert Path("model.keras") in digests[0]


@pytest.mark.parametrize("scale", ["feature", "bin"])
@pytest.mark.parametrize("normalize", ["log", "linear", "none"])
def test_how_a_feature_of_magnitudes_is_normalised(
    sides: dict[str, Side],
    normalize: Literal["log", "linear", "none"],
    scale: Literal["feature", "bin"],
) -> None:
    """What reaches the model: logarithms or magnitudes, standardised by bin or on one scale, or neither."""
    import keras

    store = dataclasses.replace(sides["train"].store, params={"feature": {"magnitudes": True}})
    train = dataclasses.replace(sides["train"], store=store)
    network = training.build(
        MODELS[0], train, TRAIN.model_copy(update={"normalize": normalize, "scale": scale})
    )
    values = np.array(reader.rows(train.store)[train.rows], np.float64)
    expected = np.log(np.maximum(values, training.MIN_MAGNITUDE)) if normalize == "log" else values
    if normalize != "none":
        expected = expected - expected.mean(axis=(0, 1))
        axes = (0, 1) if scale == "bin" else (0, 1, 2)
        expected = expected / np.sqrt((expected**2).mean(axis=axes))
    reaching = keras.Model(network.input, network.get_layer("lstm").input)
    np.testing.assert_allclose(reaching.predict(values, verbose=0), expected, rtol=1e-2, atol=1e-2)


def test_a_feature_too_small_for_the_model_is_refused(sides: dict[str, Side]) -> None:
    """Five convolutions on 12 frames are an error that names model and shape."""
    with pytest.raises(PipelineError, match="model cnn cannot take a feature of 12 frames x 10 bins"):
        training.build(Cnn(filters=[4] * 5, pool=[2, 2], units=8, dropout=0), sides["train"], TRAIN)


def test_a_training_that_diverges_is_an_error_and_saves_nothing(
    sides: dict[str, Side], tmp_path: Path
) -> None:
    """A learning rate that drives the loss to infinity ends training with the parameter to lower."""
    how = TRAIN.model_copy(update={"learning_rate": 3e38})
    with pytest.raises(PipelineError, match=r"diverged in epoch \d+.*train\.learning_rate, 3e\+38"):
        train_and_save(MODELS[1], sides, tmp_path, how)
    assert not (tmp_path / "model.keras").exists()
