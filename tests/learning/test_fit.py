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

from pipeline import params
from pipeline.errors import PipelineError
from pipeline.learning import batches, fit, runtime
from pipeline.learning.augmentation import Augment
from pipeline.learning.batches import Side
from pipeline.learning.fit import Train
from pipeline.models import Model
from pipeline.models.bcresnet import Bcresnet
from pipeline.models.cnn import Cnn
from pipeline.models.dscnn import Dscnn
from pipeline.models.resnet import Resnet
from pipeline.models.rnn import Rnn
from pipeline.models.tcresnet import Tcresnet
from pipeline.models.transfer import Transfer
from pipeline.store import reader
from pipeline.store.layout import Rows, describe
from tests.project import ROOT
from tests.store.make import make_store

pytestmark = pytest.mark.tensorflow

FRAMES, BINS = 12, 40
MADE: dict[str, Any] = {
    "audio": {"sample_rate": 22050},
    "feature": {"name": "x", "magnitudes": False, "hop_length": 2205},
}
NO_AUGMENT = Augment(
    time_shift=0.0,
    time_stretch=0.0,
    frequency_warp=0.0,
    time_masks=0,
    time_mask=0.0,
    frequency_masks=0,
    frequency_mask=0,
    mixup=0.0,
)
TRAIN = Train(
    seed=0,
    normalize="log",
    scale="bin",
    cache="auto",
    batch_size=16,
    epochs=12,
    optimizer="adam",
    learning_rate=0.01,
    schedule="constant",
    warmup=0.0,
    weight_decay=0.0,
    clip_norm=None,
    label_smoothing=0.0,
    class_weights="none",
    monitor="loss",
    patience=5,
    precision="float32",
    jit=False,
    deterministic=True,
    tensorboard=False,
    augment=NO_AUGMENT,
)
# Everything that may be drawn at random, at once.
LIVELY = TRAIN.model_copy(
    update={
        "optimizer": "adamw",
        "schedule": "cosine",
        "warmup": 0.1,
        "weight_decay": 0.01,
        "clip_norm": 1.0,
        "label_smoothing": 0.1,
        "class_weights": "balanced",
        "augment": Augment(
            time_shift=0.2,
            time_stretch=0.1,
            frequency_warp=0.1,
            time_masks=1,
            time_mask=0.2,
            frequency_masks=1,
            frequency_mask=3,
            mixup=0.3,
        ),
    }
)
MODELS: dict[str, Model] = {
    "rnn": Rnn(units=8, dropout=0.1),
    "cnn": Cnn(filters=[4, 4], pool=[[2, 2]] * 2, padding="same", units=8, dropout=0.1),
    "tcresnet": Tcresnet(width=1.0, stem=4, blocks=[6, 8], kernel=3, dropout=0.1),
    "bcresnet": Bcresnet(width=0.5, subbands=1, dropout=0.1),
    "resnet": Resnet(width=0.25, stem=16, blocks=[16, 32], dropout=0.1),
    "dscnn": Dscnn(channels=8, blocks=2, dropout=0.1),
    "transfer": Transfer(
        backbone="MobileNet", weights=None, image=32, frozen_epochs=1, fine_tuning=0.1, dropout=0.1
    ),
}


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
    make_store(folder / "x.h5", _rows(), clips=clips, made=MADE)
    names = ["train", "train", "train", "val", "test"]
    store = describe(folder / "x.h5")
    return {
        name: batches.part(store, [row for row in range(120) if names[row % 5] == name])
        for name in set(names)
    }


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Side]:
    return make_sides(tmp_path_factory.mktemp("sides"))


class Trained(NamedTuple):
    model: Model
    network: Any
    folder: Path


@pytest.fixture(scope="module", params=["rnn", "cnn"])
def trained(
    request: pytest.FixtureRequest, sides: dict[str, Side], tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    """Each model, trained and saved."""
    folder = tmp_path_factory.mktemp("trained")
    model = MODELS[request.param]
    return Trained(model, train_and_save(model, sides, folder), folder)


def train_and_save(model: Model, sides: dict[str, Side], folder: Path, how: Train = TRAIN) -> Any:
    runtime.start(how.seed)
    network = fit.build(model, sides["train"], how)
    fit.fit(network, model, (sides["train"], sides["val"]), how, folder / "logs")
    fit.save(network, folder / "model.keras")
    return network


def test_moments_are_those_of_the_training_clips(sides: dict[str, Side]) -> None:
    """Mean and variance by bin are NumPy's over the training clips alone."""
    values = _rows()[sides["train"].rows].astype(np.float64)
    mean, variance = fit.moments(sides["train"], log=False)
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
    network = train_and_save(MODELS["rnn"], sides, tmp_path, how)
    curve = (tmp_path / f"logs/plots/metrics/val/{monitor}.tsv").read_text().splitlines()[1:]
    values = [float(line.split("\t")[1]) for line in curve]
    best = json.loads((tmp_path / "logs" / "metrics.json").read_text())["best"]
    assert len(set(values)) > 1
    assert best["epoch"] == values.index(best_of(values)) + 1
    assert best["val"][monitor] == best_of(values)
    network.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    scores = network.evaluate(batches.batches(sides["val"], 16), return_dict=True, verbose=0)
    assert scores == pytest.approx(best["val"], rel=1e-5)


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> list[dict[Path, str]]:
    """The md5s of all files that training every model writes, in each of two processes, a while apart."""
    code = """if True:
        import sys
        from pathlib import Path
        from tests import test_training as t
        for name, model in t.MODELS.items():
            folder = Path(sys.argv[1]) / name
            folder.mkdir()
            how = t.LIVELY.model_copy(update={"epochs": 2})
            t.train_and_save(model, t.make_sides(folder), folder, how)
    """
    folders = [tmp_path_factory.mktemp(name) for name in ("one", "two")]
    processes = []
    for folder in folders:
        processes.append(subprocess.Popen([sys.executable, "-c", code, str(folder)], cwd=ROOT))
        time.sleep(3)  # more than a zip's clock takes for the same time
    digests = []
    for folder, process in zip(folders, processes, strict=True):
        assert process.wait() == 0
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        digests.append(
            {path.relative_to(folder): hashlib.md5(path.read_bytes()).hexdigest() for path in files}
        )
    return digests


@pytest.mark.parametrize("name", MODELS)
def test_training_twice_gives_the_same_bytes(name: str, twice: list[dict[Path, str]]) -> None:
    """Two processes write the same model, metrics and curves, whatever is done to the clips."""
    one, two = ({path: md5 for path, md5 in found.items() if path.parts[0] == name} for found in twice)
    assert one == two
    assert Path(name, "model.keras") in one
    assert Path(name, "logs/metrics.json") in one


@pytest.mark.parametrize("scale", ["feature", "bin"])
@pytest.mark.parametrize("normalize", ["log", "linear", "none"])
def test_how_a_feature_of_magnitudes_is_normalised(
    sides: dict[str, Side],
    normalize: Literal["log", "linear", "none"],
    scale: Literal["feature", "bin"],
) -> None:
    """What reaches the model: logarithms or magnitudes, standardised by bin or on one scale, or neither."""
    import keras

    made = {**MADE, "feature": {**MADE["feature"], "magnitudes": True}}
    store = dataclasses.replace(sides["train"].store, params=made)
    train = dataclasses.replace(sides["train"], store=store)
    network = fit.build(
        MODELS["rnn"], train, TRAIN.model_copy(update={"normalize": normalize, "scale": scale})
    )
    values = np.array(reader.rows(train.store)[train.rows], np.float64)
    expected = np.log(np.maximum(values, fit.MIN_MAGNITUDE)) if normalize == "log" else values
    if normalize != "none":
        expected = expected - expected.mean(axis=(0, 1))
        axes = (0, 1) if scale == "bin" else (0, 1, 2)
        expected = expected / np.sqrt((expected**2).mean(axis=axes))
    reaching = keras.Model(network.input, network.get_layer("lstm").input)
    np.testing.assert_allclose(reaching.predict(values, verbose=0), expected, rtol=1e-2, atol=1e-2)


def test_a_feature_too_small_for_the_model_is_refused(sides: dict[str, Side]) -> None:
    """Six convolutions on 12 frames are an error that names model and shape."""
    with pytest.raises(PipelineError, match="model cnn cannot take a feature of 12 frames x 40 bins"):
        fit.build(
            Cnn(filters=[4] * 6, pool=[[2, 2]] * 6, padding="same", units=8, dropout=0), sides["train"], TRAIN
        )


def test_a_training_that_diverges_is_an_error_and_saves_nothing(
    sides: dict[str, Side], tmp_path: Path
) -> None:
    """A learning rate that drives the loss to infinity ends training with the parameter to lower."""
    how = TRAIN.model_copy(update={"learning_rate": 3e38})
    with pytest.raises(PipelineError, match=r"diverged in epoch \d+.*train\.learning_rate, 3e\+38"):
        train_and_save(MODELS["cnn"], sides, tmp_path, how)
    assert not (tmp_path / "model.keras").exists()


# ------------------------------------------------------------------------------------- how it is trained


def test_training_batches_are_those_of_the_side_but_for_what_is_done_to_them(sides: dict[str, Side]) -> None:
    """One-hot targets, smoothed; weights higher for the rarer label, of mean 1."""
    how = LIVELY.model_copy(update={"augment": NO_AUGMENT, "label_smoothing": 0.2})
    batches = list(fit.training_batches(sides["train"], how))
    targets = np.concatenate([targets for _, targets, _ in batches])
    weights = np.concatenate([weights for _, _, weights in batches])
    np.testing.assert_allclose(np.sort(targets, axis=1), np.tile([0.1, 0.9], (len(targets), 1)), rtol=1e-5)
    count = np.bincount(sides["train"].targets)
    np.testing.assert_allclose(weights, (len(targets) / 2 / count)[targets.argmax(axis=1)], rtol=1e-5)
    assert weights.mean() == pytest.approx(1)


def test_training_clips_are_changed_anew_each_epoch_and_the_same_for_the_seed(sides: dict[str, Side]) -> None:
    """Two epochs differ, also clip by clip; another dataset of the seed repeats both."""

    def epochs(seed: int) -> list[Any]:
        how = LIVELY.model_copy(update={"seed": seed})
        dataset = fit.training_batches(sides["train"], how)
        return [np.concatenate([values for values, *_ in dataset]) for _ in range(2)]

    first, second = epochs(0)
    for one, two in zip((first, second), epochs(0), strict=True):
        np.testing.assert_array_equal(one, two)
    assert len(np.unique(np.concatenate([first, second]).sum(axis=(1, 2)))) > 1.9 * len(first)
    assert (epochs(1)[0] != first).any()


@pytest.mark.parametrize("normalize", ["log", "linear"])
def test_masked_values_are_the_mean_for_the_model(
    sides: dict[str, Side], normalize: Literal["log", "linear"]
) -> None:
    """What is masked reaches the model as 0, whatever the normalisation."""
    import keras

    made = {**MADE, "feature": {**MADE["feature"], "magnitudes": True}}
    train = dataclasses.replace(sides["train"], store=dataclasses.replace(sides["train"].store, params=made))
    augment = NO_AUGMENT.model_copy(update={"time_masks": 2, "time_mask": 0.5})
    how = TRAIN.model_copy(update={"normalize": normalize, "augment": augment})
    network = fit.build(MODELS["rnn"], train, how)
    reaching = keras.Model(network.input, network.get_layer("lstm").input)
    values = reaching.predict(fit.training_batches(train, how), verbose=0)
    masked = (np.abs(values) < 0.05).all(axis=2)
    assert 0.05 < masked.mean() < 0.6


def test_a_schedule_rises_and_falls() -> None:
    """Cosine: from 0 to the full rate in the warm-up's share of steps, to 0 at the last."""
    optimizer = fit._optimizer(LIVELY, 100, 0.5)
    rates = [float(optimizer._learning_rate(step)) for step in (0, 5, 10, 55, 100)]
    np.testing.assert_allclose(rates, [0, 0.0025, 0.005, 0.0025, 0], atol=1e-6)
    assert float(fit._optimizer(TRAIN, 100, 0.5).learning_rate) == pytest.approx(0.005)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_weight_decay_is_of_kernels_alone(name: Literal["adam", "adamw", "sgd"]) -> None:
    """Without a gradient a step with decay shrinks a kernel, and leaves bias, gamma and beta."""
    import keras

    how = TRAIN.model_copy(update={"optimizer": name, "weight_decay": 0.0 if name == "adam" else 0.5})
    optimizer = fit._optimizer(how, 10, 1.0)
    variables = [keras.Variable(np.ones(2, np.float32), name=n) for n in ("kernel", "bias", "gamma", "beta")]
    optimizer.build(variables)
    optimizer.apply([keras.ops.zeros(2)] * 4, variables)
    kernel, *others = (float(np.asarray(variable)[0]) for variable in variables)
    assert (kernel < 1) == (name != "adam")
    assert others == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_trains_and_returns_single(
    sides: dict[str, Side], tmp_path: Path, precision: Literal["mixed_bfloat16", "mixed_float16"]
) -> None:
    """Layers compute in half precision, weights and logits are float32, and the model learns."""
    network = train_and_save(
        MODELS["cnn"], sides, tmp_path, TRAIN.model_copy(update={"precision": precision})
    )
    assert network.get_layer("conv1").compute_dtype == precision.removeprefix("mixed_")
    assert network.get_layer("conv1").kernel.dtype == "float32"
    assert network.output.dtype == "float32"
    best = json.loads((tmp_path / "logs" / "metrics.json").read_text())["best"]
    assert best["val"]["accuracy"] > 0.85


def test_the_lstm_can_run_on_cudnn(sides: dict[str, Side]) -> None:
    """The network of `rnn` meets the conditions under which Keras takes cuDNN's kernel on a GPU."""
    layer = fit.build(MODELS["rnn"], sides["train"], TRAIN).get_layer("lstm")
    assert layer.use_cudnn == "auto"
    assert (layer.activation.__name__, layer.recurrent_activation.__name__) == ("tanh", "sigmoid")
    assert (layer.recurrent_dropout, layer.unroll, layer.use_bias) == (0, False, True)


# ------------------------------------------------------------------------------------------- parameters


def _read(**model_train: Any) -> tuple[Train | None, list[str]]:
    content = {"train": TRAIN.model_dump(), "models": {"cnn": {"units": 8, "train": model_train}}}
    return params.check(content, "train", Train, over="models.cnn.train")


def test_a_models_own_training_counts() -> None:
    """What a model has under `train` takes the place of train's, one by one, also within `augment`."""
    how, mistakes = _read(epochs=7, augment={"mixup": 0.5})
    assert mistakes == []
    expected = {"epochs": 7, "augment": NO_AUGMENT.model_copy(update={"mixup": 0.5})}
    assert how == TRAIN.model_copy(update=expected)


def test_a_mistake_in_a_models_own_training_is_named_where_it_stands() -> None:
    """The path is the model's, also that of an unknown key."""
    _, mistakes = _read(epochs=0, augment={"mixup": -1.0}, batchsize=3)
    assert mistakes == [
        "params.yaml: models.cnn.train.epochs must be at least 1, is 0",
        "params.yaml: models.cnn.train.augment.mixup must be at least 0, is -1.0",
        "params.yaml: models.cnn.train.batchsize is not a parameter; did you mean batch_size?",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight_decay": 0.1}, "has a weight_decay, which adam is without"),
        ({"warmup": 0.1}, "has a warmup, which belongs to schedule cosine"),
        ({"jit": True}, "has jit and deterministic true"),
    ],
)
def test_what_does_not_go_together_is_refused(change: dict[str, Any], message: str) -> None:
    """Settings of which one would be without effect, or without meaning, are a mistake that says so."""
    _, mistakes = _read(**change)
    assert [message in mistake for mistake in mistakes] == [True]


def test_missing_weights_say_how_to_get_them(sides: dict[str, Side]) -> None:
    """A file of weights that is not there is an error with its path."""
    model = MODELS["transfer"].model_copy(update={"weights": "none.weights.h5"})
    with pytest.raises(
        PipelineError, match=r"models\.transfer\.weights must be.*'none\.weights\.h5'.*no file"
    ):
        fit.build(model, sides["train"], TRAIN)


def test_weights_from_a_file_are_frozen_then_tuned(sides: dict[str, Side], tmp_path: Path) -> None:
    """The backbone starts with the file's weights, keeps them in the frozen epochs, and changes after."""
    import keras

    model = MODELS["transfer"]
    backbone = fit.build(model, sides["train"], TRAIN).get_layer("backbone")
    file = tmp_path / "backbone.weights.h5"
    backbone.save_weights(file)
    tuned = model.model_copy(update={"weights": str(file)})

    def after(epochs: int) -> list[Any]:
        keras.utils.set_random_seed(1)
        how = TRAIN.model_copy(update={"epochs": epochs})
        network = fit.build(tuned, sides["train"], how)
        fit.fit(network, tuned, (sides["train"], sides["val"]), how, tmp_path / f"logs{epochs}")
        return [np.asarray(weight) for weight in network.get_layer("backbone").trainable_weights]

    backbone.trainable = True
    before = [np.asarray(weight) for weight in backbone.trainable_weights]
    changed = [not np.array_equal(*pair) for pair in zip(before, after(2), strict=True)]
    assert any(changed)
    tuned = tuned.model_copy(update={"frozen_epochs": 2})
    backbone.trainable = False
    network = fit.build(tuned, sides["train"], TRAIN)
    how = TRAIN.model_copy(update={"epochs": 2})
    fit.fit(network, tuned, (sides["train"], sides["val"]), how, tmp_path / "logs")
    network.get_layer("backbone").trainable = True
    for old, new in zip(before, network.get_layer("backbone").trainable_weights, strict=True):
        np.testing.assert_array_equal(old, np.asarray(new))
