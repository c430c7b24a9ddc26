"""Training: the best epoch, reproducibility, batches, optimiser, precision, and messages."""

import dataclasses
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest

from pipeline import kerasfile
from pipeline.errors import PipelineError
from pipeline.learning import batches, fit, network
from pipeline.learning.batches import Subset
from pipeline.learning.preparation import prepare
from pipeline.learning.settings import Train
from pipeline.models import Model
from pipeline.models.cnn import CNN
from tests.learning.make import (
    LIVELY,
    MODELS,
    NO_AUGMENT,
    PARAMS,
    TRAIN,
    build,
    make_rows,
    make_subsets,
    train_and_save,
)
from tests.project import ROOT, fresh_environment

pytestmark = pytest.mark.tensorflow


def _batches(subset: Subset, settings: Train) -> Any:
    preparation = prepare(subset, settings, network.measure(subset, settings))
    return fit.training_batches(subset, settings, preparation)


@pytest.fixture(scope="module")
def subsets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Subset]:
    return make_subsets(tmp_path_factory.mktemp("subsets"))


class Trained(NamedTuple):
    model: Model
    network: Any
    folder: Path


@pytest.fixture(scope="module", params=["rnn", "cnn"])
def trained(
    request: pytest.FixtureRequest, subsets: dict[str, Subset], tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    """A model, trained and saved."""
    folder = tmp_path_factory.mktemp("trained")
    model = MODELS[request.param]
    return Trained(model, train_and_save(model, subsets, folder), folder)


def test_the_normalisation_is_inside_the_saved_model(trained: Trained, subsets: dict[str, Subset]) -> None:
    """The loaded model takes features as stored, scales each bin itself, and gives the same logits."""
    import keras

    loaded = keras.models.load_model(trained.folder / "model.keras")
    values = make_rows()
    logits = loaded.predict(values, verbose=0)
    np.testing.assert_array_equal(logits, trained.network.predict(values, verbose=0))
    scaled = np.asarray(loaded.get_layer("normalization")(values[subsets["train"].rows]))
    np.testing.assert_allclose(scaled.mean(axis=(0, 1)), 0, atol=1e-2)
    np.testing.assert_allclose(scaled.std(axis=(0, 1)), 1, atol=1e-2)


def test_a_model_learns_and_returns_logits(trained: Trained) -> None:
    """On separable clips the validation accuracy exceeds 0.85; outputs are logits, not probabilities."""
    best = json.loads((trained.folder / "logs" / "metrics.json").read_text())["best"]
    assert best["val"]["accuracy"] > 0.85
    logits = trained.network.predict(make_rows(), verbose=0)
    assert logits.shape == (120, 2)
    assert logits.min() < 0


@pytest.mark.parametrize("monitor", ["loss", "accuracy"])
def test_the_best_epoch_is_kept(
    subsets: dict[str, Subset],
    tmp_path: Path,
    monitor: Literal["loss", "accuracy"],
) -> None:
    """The saved weights are those of the epoch with the lowest loss, or highest accuracy, on val.

    Of epochs with the same accuracy, it is that with the lowest loss.
    """
    import keras

    settings = TRAIN.model_copy(
        update={"monitor": monitor, "optimizer": "sgd", "learning_rate": 5.0, "patience": 12}
    )
    network = train_and_save(MODELS["rnn"], subsets, tmp_path, settings)
    curves = {}
    for metric in ("loss", "accuracy"):
        lines = (tmp_path / f"logs/plots/metrics/val/{metric}.tsv").read_text().splitlines()[1:]
        curves[metric] = [float(line.split("\t")[1]) for line in lines]
    candidates = list(range(len(curves["loss"])))
    if monitor == "accuracy":
        highest = max(curves["accuracy"])
        assert curves["accuracy"].count(highest) > 1
        candidates = [epoch for epoch in candidates if curves["accuracy"][epoch] == highest]
    expected = min(candidates, key=lambda epoch: curves["loss"][epoch])
    best = json.loads((tmp_path / "logs" / "metrics.json").read_text())["best"]
    assert best["epoch"] == expected + 1 < len(curves["loss"])
    assert best["val"][monitor] == curves[monitor][expected]
    network.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    scores = network.evaluate(batches.batches(subsets["val"], 16), return_dict=True, verbose=0)
    assert scores == pytest.approx(best["val"], rel=1e-5)


class InTwoPhases(CNN):
    """A model whose first phase ends after at most 6 epochs."""

    def phases(self, network: Any, epochs: int) -> Iterator[tuple[int, float]]:
        del network
        yield 6, 0.0  # no weight changes, so no epoch is better than the first
        yield epochs, 1.0


def test_the_best_epoch_is_a_row_of_the_curve(subsets: dict[str, Subset], tmp_path: Path) -> None:
    """If a phase ends early, the epochs of the next one follow without a gap, and `best` counts like them."""
    model = InTwoPhases(filters=[4], pool=[[2, 2]], units=8, dropout=0.0)
    train_and_save(model, subsets, tmp_path, TRAIN.model_copy(update={"epochs": 9, "patience": 2}))
    rows = (tmp_path / "logs/plots/metrics/val/loss.tsv").read_text().splitlines()[1:]
    losses = {int(step): float(loss) for step, loss in (row.split("\t") for row in rows)}
    assert list(losses) == list(range(1, 3 + 3 + 1))
    best = json.loads((tmp_path / "logs/metrics.json").read_text())["best"]
    assert best["epoch"] > 3
    assert losses[best["epoch"]] == best["val"]["loss"] == min(losses[epoch] for epoch in (4, 5, 6))


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> list[dict[Path, str]]:
    """The md5s of all files that training every model writes, from two processes started 3 s apart.

    One has all cores, and the other one core, and other settings of TensorFlow in the environment.
    """
    code = """if True:
        import os, sys
        from pathlib import Path
        from pipeline.models import bcresnet
        from tests.learning import make
        bcresnet.STAGES = ((2, 8, 1, 1), (1, 12, 2, 2))  # to build all four takes 20 s
        settings = make.LIVELY.model_copy(update={"epochs": 2})
        if sys.argv[2] == "one":
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
            os.environ.update(
                TF_NUM_INTRAOP_THREADS="3", TF_ENABLE_ONEDNN_OPTS="0", ONEDNN_MAX_CPU_ISA="SSE41"
            )
        for name, model in make.MODELS.items():
            folder = Path(sys.argv[1]) / name
            folder.mkdir()
            make.train_and_save(model, make.make_subsets(folder), folder, settings)
        folder = Path(sys.argv[1]) / "speech"
        folder.mkdir()
        settings = settings.model_copy(update={"normalize": "none"})
        make.train_and_save(make.SPEECH, make.make_speech_subsets(folder), folder, settings)
    """
    folders = [tmp_path_factory.mktemp(name) for name in ("one", "two")]
    processes = []
    for folder, cores in zip(folders, ("one", "all"), strict=True):
        processes.append(subprocess.Popen([sys.executable, "-c", code, str(folder), cores], cwd=ROOT))
        time.sleep(3)  # a zip archive stores times in steps of 2 s
    digests = []
    for folder, process in zip(folders, processes, strict=True):
        assert process.wait() == 0
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        digests.append(
            {path.relative_to(folder): hashlib.md5(path.read_bytes()).hexdigest() for path in files}
        )
    return digests


@pytest.mark.parametrize("name", [*MODELS, "speech"])
def test_training_twice_gives_the_same_bytes(name: str, twice: list[dict[Path, str]]) -> None:
    """Two processes write the same model, metrics and curves, with every augmentation, on any cores."""
    one, two = ({path: md5 for path, md5 in found.items() if path.parts[0] == name} for found in twice)
    assert one == two
    assert Path(name, "model.keras") in one
    assert Path(name, "logs/metrics.json") in one


def test_a_training_that_diverges_is_an_error_and_saves_nothing(
    subsets: dict[str, Subset], tmp_path: Path
) -> None:
    """If the loss becomes infinite, training stops, and the message names the parameter to lower."""
    settings = TRAIN.model_copy(update={"learning_rate": 3e38})
    with pytest.raises(PipelineError, match=r"diverged in epoch \d+.*train\.learning_rate, 3e\+38"):
        train_and_save(MODELS["cnn"], subsets, tmp_path, settings)
    assert not (tmp_path / "model.keras").exists()


def test_targets_are_smoothed_and_rare_labels_weigh_more(
    subsets: dict[str, Subset],
) -> None:
    """Targets are one-hot, then smoothed; with balanced classes, weights have mean 1."""
    settings = LIVELY.model_copy(update={"augment": NO_AUGMENT, "label_smoothing": 0.2})
    batches = list(_batches(subsets["train"], settings))
    targets = np.concatenate([targets for _, targets, _ in batches])
    weights = np.concatenate([weights for _, _, weights in batches])
    np.testing.assert_allclose(np.sort(targets, axis=1), np.tile([0.1, 0.9], (len(targets), 1)), rtol=1e-5)
    count = np.bincount(subsets["train"].targets)
    np.testing.assert_allclose(weights, (len(targets) / 2 / count)[targets.argmax(axis=1)], rtol=1e-5)
    assert weights.mean() == pytest.approx(1)


@pytest.mark.parametrize(("chosen", "weights"), [({"no": 3.0}, (3, 1)), ({"yes": 0.5}, (1, 0.5))])
def test_labels_may_have_weights(
    subsets: dict[str, Subset], chosen: dict[str, float], weights: tuple[float, float]
) -> None:
    """Clips of the named labels weigh as much more as params.yaml says, and the mean weight is 1."""
    batches = list(_batches(subsets["train"], TRAIN.model_copy(update={"class_weights": chosen})))
    targets, found = (np.concatenate([batch[n] for batch in batches]) for n in (1, 2))
    expected = np.array(weights, np.float64)[targets.argmax(axis=1)]
    np.testing.assert_allclose(found, expected / expected.mean(), rtol=1e-5)


def test_weights_of_unknown_labels_are_an_error(subsets: dict[str, Subset]) -> None:
    """A label in class_weights that no training clip has is named, with those that there are."""
    with pytest.raises(PipelineError, match="class_weights has yess, expected some of the labels no, yes:"):
        _batches(subsets["train"], TRAIN.model_copy(update={"class_weights": {"yess": 2.0}}))


def test_augmentation_differs_by_epoch_and_depends_on_the_seed(
    subsets: dict[str, Subset],
) -> None:
    """Clips differ between two epochs; a second dataset with the same seed repeats both epochs."""

    def epochs(seed: int) -> list[Any]:
        settings = LIVELY.model_copy(update={"seed": seed})
        dataset = _batches(subsets["train"], settings)
        return [np.concatenate([values for values, *_ in dataset]) for _ in range(2)]

    first, second = epochs(0)
    for one, two in zip((first, second), epochs(0), strict=True):
        np.testing.assert_array_equal(one, two)
    assert len(np.unique(np.concatenate([first, second]).sum(axis=(1, 2)))) > 1.9 * len(first)
    assert (epochs(1)[0] != first).any()


@pytest.mark.parametrize("normalize", ["log", "linear"])
def test_masked_values_are_0_for_the_model(
    subsets: dict[str, Subset], normalize: Literal["log", "linear"]
) -> None:
    """Masked values reach the model as 0, with either normalisation."""
    import keras

    params = {**PARAMS, "feature": {**PARAMS["feature"], "scale": "magnitude"}}
    masked_train = dataclasses.replace(
        subsets["train"], store=dataclasses.replace(subsets["train"].store, params=params)
    )
    augment = NO_AUGMENT.model_copy(update={"time_masks": 2, "time_mask": 0.5})
    settings = TRAIN.model_copy(update={"normalize": normalize, "augment": augment})
    network = build(MODELS["rnn"], masked_train, settings)
    reaching = keras.Model(network.input, network.get_layer("lstm").input)
    values = reaching.predict(_batches(masked_train, settings), verbose=0)
    masked = (np.abs(values) < 0.05).all(axis=2)
    assert 0.05 < masked.mean() < 0.6


def test_a_schedule_rises_and_falls() -> None:
    """A cosine schedule rises from 0 in the warm-up, and falls to 0 at the last step."""
    optimizer = fit._optimizer(LIVELY, 100, 0.5)
    rates = [float(optimizer._learning_rate(step)) for step in (0, 5, 10, 55, 100)]
    np.testing.assert_allclose(rates, [0, 0.0025, 0.005, 0.0025, 0], atol=1e-6)
    assert float(fit._optimizer(TRAIN, 100, 0.5).learning_rate) == pytest.approx(0.005)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_only_kernels_decay(name: Literal["adam", "adamw", "sgd"]) -> None:
    """A step without gradient shrinks only the kernel: bias, gamma and beta do not decay."""
    import keras

    settings = TRAIN.model_copy(update={"optimizer": name, "weight_decay": 0.0 if name == "adam" else 0.5})
    optimizer = fit._optimizer(settings, 10, 1.0)
    variables = [keras.Variable(np.ones(2, np.float32), name=n) for n in ("kernel", "bias", "gamma", "beta")]
    optimizer.build(variables)
    optimizer.apply([keras.ops.zeros(2)] * 4, variables)
    kernel, *others = (float(np.asarray(variable)[0]) for variable in variables)
    assert (kernel < 1) == (name != "adam")
    assert others == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_trains_and_returns_single(
    tmp_path: Path, precision: Literal["mixed_bfloat16", "mixed_float16"]
) -> None:
    """Layers compute in half precision, weights and logits are float32, and the model learns.

    It does so in a process of its own, because TensorFlow chooses the processor's instructions once.
    """
    code = """if True:
        import json, sys
        from pathlib import Path
        from tests.learning import make
        folder, precision = Path(sys.argv[1]), sys.argv[2]
        settings = make.TRAIN.model_copy(update={"precision": precision})
        net = make.train_and_save(make.MODELS["cnn"], make.make_subsets(folder), folder, settings)
        assert net.get_layer("conv1").compute_dtype == precision.removeprefix("mixed_")
        assert net.get_layer("conv1").kernel.dtype == "float32"
        assert net.output.dtype == "float32"
        best = json.loads((folder / "logs/metrics.json").read_text())["best"]
        assert best["val"]["accuracy"] > 0.85, best
    """
    argv = [sys.executable, "-c", code, str(tmp_path), precision]
    subprocess.run(argv, cwd=ROOT, env=fresh_environment(), check=True)
    assert kerasfile.precision(tmp_path / "model.keras") == precision


def test_a_feature_without_frame_times_is_augmented_in_frames(subsets: dict[str, Subset]) -> None:
    """If a feature does not declare how far apart its frames are, `time_mask: 3.0` masks up to 3 frames."""
    feature = {**PARAMS["feature"], "frame_times": None}
    store = dataclasses.replace(subsets["train"].store, params={**PARAMS, "feature": feature})
    undeclared = dataclasses.replace(subsets["train"], store=store)
    augment = NO_AUGMENT.model_copy(update={"time_masks": 1, "time_mask": 3.0})
    settings = TRAIN.model_copy(update={"augment": augment})
    fill = network.measure(undeclared, settings).typical_value
    lengths = set()
    for values, *_ in _batches(undeclared, settings):
        lengths |= set((values.numpy() == fill).all(axis=2).sum(axis=1).tolist())
    assert lengths == {0, 1, 2, 3}


def test_one_device_never_loads_the_code_for_several(tmp_path: Path) -> None:
    """Training on one device does not import pipeline.learning.replicas."""
    code = """if True:
        import sys
        from pathlib import Path
        from tests.learning import make
        settings = make.TRAIN.model_copy(update={"epochs": 1})
        folder = Path(sys.argv[1])
        make.train_and_save(make.MODELS["rnn"], make.make_subsets(folder), folder, settings)
        assert "pipeline.learning.fit" in sys.modules
        assert "pipeline.learning.replicas" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=True)


def test_tensorboard_gets_a_log_beside_the_outputs(
    subsets: dict[str, Subset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With train.tensorboard, each training leaves events of train and val in a folder below logs/."""
    monkeypatch.chdir(tmp_path)
    settings = TRAIN.model_copy(update={"tensorboard": True, "epochs": 1})
    train_and_save(MODELS["rnn"], subsets, tmp_path / "out", settings)
    (run,) = (tmp_path / "logs").iterdir()
    events = [path for path in run.rglob("events.out.tfevents.*") if path.stat().st_size > 0]
    assert {path.parent.name for path in events} == {"train", "validation"}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["logs", "model.keras"]


def test_tensorboard_that_is_missing_is_named(
    subsets: dict[str, Subset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without TensorBoard the message says how to install it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    settings = TRAIN.model_copy(update={"tensorboard": True})
    with pytest.raises(PipelineError, match=r"tensorboard is not installed: pip install '\.\[tensorboard\]'"):
        train_and_save(MODELS["rnn"], subsets, tmp_path, settings)


def test_jit_compiles_the_training_step_with_xla(tmp_path: Path) -> None:
    """With train.jit, Keras compiles the step with XLA, and the model learns as without."""
    code = """if True:
        import json, sys
        from pathlib import Path
        import tensorflow as tf
        from tests.learning import make
        compiled = []
        function = tf.function
        def recorded(*args, **options):
            compiled.append(options.get("jit_compile"))
            return function(*args, **options)
        tf.function = recorded
        update = {"jit": True, "deterministic": False}
        settings = make.TRAIN.model_copy(update=update)
        from pipeline.learning import runtime
        runtime.start(0, deterministic=False)
        subsets, folder = make.make_subsets(Path(sys.argv[1])), Path(sys.argv[1])
        net = make.build(make.MODELS["cnn"], subsets["train"], settings)
        make.train(make.MODELS["cnn"], net, subsets, settings, folder / "logs")
        assert net.jit_compile is True
        assert True in compiled, compiled
        best = json.loads((folder / "logs/metrics.json").read_text())["best"]
        assert best["val"]["accuracy"] > 0.85, best
    """
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=True)
