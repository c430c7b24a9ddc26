"""Knowledge distillation: what the student sees, what it learns, and what a wrong teacher is told."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.learning import fit, network, teacher
from pipeline.learning.batches import Subset
from pipeline.learning.preparation import prepare
from pipeline.learning.saving import save
from pipeline.learning.settings import Train
from pipeline.learning.teacher import Teacher
from pipeline.learning.trainee import trainee
from pipeline.store.layout import describe
from tests.learning.make import LIVELY, MODELS, PARAMS, TRAIN, build, make_rows, make_subsets, subset_of
from tests.store.make import change_row, make_store

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def subsets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Subset]:
    return make_subsets(tmp_path_factory.mktemp("subsets"))


def _other_feature(train: Subset, folder: Path) -> Subset:
    """Return the clips of `train` in another feature: every 2nd bin, twice as large."""
    make_store(folder / "other.h5", 2 * make_rows()[:, :, ::2], clips=train.store.clips, params=PARAMS)
    return dataclasses.replace(train, store=describe(folder / "other.h5"))


def _swapping(frames: int, bins: int) -> Any:
    """Return a teacher that is sure of the wrong label: of `yes` for a burst in the lower bins."""
    import keras

    inputs = keras.Input((frames, bins))
    scaled = (inputs - 10) / (2 * np.logspace(-3, 3, 2 * bins, dtype=np.float32)[::2])
    half = bins // 2
    burst, dip = (
        keras.ops.max(keras.ops.mean(part, 2), 1) for part in (scaled[..., :half], -scaled[..., half:])
    )
    return keras.Model(inputs, 20 * keras.ops.stack([dip - burst, burst - dip], axis=1))


def _batches(train: Subset, settings: Train, by: Teacher) -> Any:
    preparation = prepare(train, settings, network.measure(train, settings), teacher=by)
    return fit.training_batches(train, settings, preparation, teacher=by)


@pytest.mark.parametrize("augmented", [False, True])
def test_student_and_teacher_get_the_same_clips(
    subsets: dict[str, Subset], tmp_path: Path, *, augmented: bool
) -> None:
    """In two epochs, each batch has two features of the same clips, shifted, masked and mixed alike."""
    train = subsets["train"]
    other = _other_feature(train, tmp_path)
    # Frequencies are left out: the 2nd bin of one feature is the 4th of the other.
    augment = LIVELY.augment.model_copy(update={"frequency_warp": 0.0, "frequency_masks": 0})
    settings = LIVELY.model_copy(update={"augment": augment} if augmented else {"augment": TRAIN.augment})
    dataset = _batches(train, settings, Teacher(None, other))
    epochs = [list(dataset), list(dataset)]
    for (own, others), *_ in epochs[0] + epochs[1]:
        np.testing.assert_allclose(others, 2 * own.numpy()[:, :, ::2], rtol=1e-4)
    first, second = (np.concatenate([own for (own, _), *_ in epoch]) for epoch in epochs)
    assert (first != second).any()


def test_a_student_believes_its_teacher(subsets: dict[str, Subset], tmp_path: Path) -> None:
    """With `teacher_weight: 1`, a teacher that confuses the labels makes the student confuse them too.

    With a small weight the labels win. The teacher takes another feature.
    """
    import keras

    other = _other_feature(subsets["train"], tmp_path)
    by = _swapping(*other.row_shape)
    by.trainable = False
    rows, targets = make_rows()[subsets["test"].rows], subsets["test"].targets
    batches = _batches(subsets["train"], TRAIN, Teacher(by, other))
    accuracies = []
    for weight in (1.0, 0.1):
        net = build(MODELS["cnn"], subsets["train"], TRAIN)
        trained = trainee(net, by, weight)
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        trained.compile(keras.optimizers.Adam(0.01), loss)
        trained.fit(batches, epochs=12, verbose=0)
        accuracies.append((net.predict(rows, verbose=0).argmax(axis=1) == targets).mean())
    assert accuracies[0] < 0.15
    assert accuracies[1] > 0.85


def test_training_with_a_teacher_keeps_the_best_epoch(subsets: dict[str, Subset], tmp_path: Path) -> None:
    """The student keeps the weights of the lowest validation loss in the log; twice gives the same bytes.

    The teacher's weights do not change.
    """
    import keras

    from pipeline.learning import runtime
    from pipeline.learning.batches import batches

    by = build(MODELS["cnn"], subsets["train"], TRAIN)
    by.trainable = False
    before = [weight.copy() for weight in by.get_weights()]
    digests = []
    for name in ("one", "two"):
        runtime.start(0)
        net = build(MODELS["cnn"], subsets["train"], LIVELY)
        fit.fit(
            net,
            MODELS["cnn"],
            (subsets["train"], subsets["val"]),
            LIVELY,
            moments=network.measure(subsets["train"], LIVELY),
            logs=tmp_path / name,
            teacher=Teacher(by, subsets["train"]),
        )
        save(net, tmp_path / f"{name}.keras")
        digests.append(hashlib.md5((tmp_path / f"{name}.keras").read_bytes()).hexdigest())
    assert digests[0] == digests[1]
    for old, new in zip(before, by.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    loaded = keras.models.load_model(tmp_path / "one.keras")
    loaded.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    curve = (tmp_path / "one/plots/metrics/val/loss.tsv").read_text().splitlines()[1:]
    lowest = min(float(line.split("\t")[1]) for line in curve)
    assert loaded.evaluate(batches(subsets["val"], 16), verbose=0) == pytest.approx(lowest, rel=1e-5)


@pytest.fixture(scope="module")
def file(subsets: dict[str, Subset], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved teacher that takes the subsets' feature."""
    path = tmp_path_factory.mktemp("teacher") / "teacher.keras"
    save(build(MODELS["cnn"], subsets["train"], TRAIN), path)
    return path


def _settings(path: Path, **changes: Any) -> Train:
    md5 = hashlib.md5(path.read_bytes()).hexdigest() if path.exists() else None
    return TRAIN.model_copy(update={"teacher": str(path), "teacher_md5": md5, **changes})


def test_no_teacher_is_none(subsets: dict[str, Subset]) -> None:
    """Without `train.teacher` nothing is loaded."""
    assert teacher.load(TRAIN, subsets["train"]) is None


def test_a_teacher_is_loaded_and_frozen(subsets: dict[str, Subset], file: Path) -> None:
    """The teacher of the file takes the training clips, and none of its weights is trained."""
    loaded = teacher.load(_settings(file), subsets["train"])
    assert loaded is not None
    assert loaded.network.trainable_weights == []
    assert loaded.train.clips == subsets["train"].clips


def test_a_missing_teacher_is_an_error(subsets: dict[str, Subset], tmp_path: Path) -> None:
    """The message names the parameter and the path."""
    with pytest.raises(PipelineError, match=r"train\.teacher is '.*none\.keras', but there is no such file"):
        teacher.load(_settings(tmp_path / "none.keras"), subsets["train"])


def test_another_teacher_is_an_error(subsets: dict[str, Subset], file: Path) -> None:
    """If the md5 is another, or none is set, the message has the option that sets the right one."""
    md5 = hashlib.md5(file.read_bytes()).hexdigest()
    for wrong in (None, 32 * "0"):
        with pytest.raises(PipelineError, match=rf"add -S train\.teacher_md5={md5}"):
            teacher.load(_settings(file, teacher_md5=wrong), subsets["train"])


def test_a_file_that_is_no_model_is_an_error(subsets: dict[str, Subset], tmp_path: Path) -> None:
    """The message names the file."""
    (tmp_path / "bad.keras").write_bytes(b"no model")
    with pytest.raises(PipelineError, match=r"Keras cannot load .*bad\.keras: .*: set it to a copy of"):
        teacher.load(_settings(tmp_path / "bad.keras"), subsets["train"])


def test_a_teacher_of_other_code_is_an_error(subsets: dict[str, Subset], tmp_path: Path) -> None:
    """If Keras does not know a layer of the teacher, the message says what to do, without a traceback."""
    import keras

    class Unknown(keras.layers.Layer):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            return inputs

    inputs = keras.Input(subsets["train"].row_shape)
    save(keras.Model(inputs, Unknown()(inputs)), tmp_path / "other.keras")
    with pytest.raises(PipelineError, match=r"Keras cannot load .*other\.keras: .*set it to a copy of"):
        teacher.load(_settings(tmp_path / "other.keras"), subsets["train"])


def test_a_teacher_for_other_clips_is_an_error(
    subsets: dict[str, Subset], file: Path, tmp_path: Path
) -> None:
    """If the feature has another shape, or there are other labels, the message has both sizes."""
    other = _other_feature(subsets["train"], tmp_path)
    with pytest.raises(PipelineError, match=r"takes 12 x 40 .* returns 2 logits, expected 12 x 20.* and 2"):
        teacher.load(_settings(file), other)
    clips = [f"{'abc'[number // 40]}/{number:03}" for number in range(120)]
    make_store(tmp_path / "three.h5", make_rows(), clips=clips, params=PARAMS)
    three = subset_of(describe(tmp_path / "three.h5"))
    with pytest.raises(PipelineError, match=r"returns 2 logits, expected 12 x 40.* and 3, the number of"):
        teacher.load(_settings(file), three)


def test_a_teachers_feature_of_other_clips_is_an_error(file: Path, tmp_path: Path) -> None:
    """The message names both stores."""
    train = make_subsets(tmp_path)["train"]
    make_store(tmp_path / "mfcc.h5", make_rows(), clips=[f"no/other {number:03}" for number in range(120)])
    with pytest.raises(PipelineError, match=r"mfcc\.h5 and .*x\.h5 contain different clips"):
        teacher.load(_settings(file, teacher_feature="mfcc"), train)


def test_a_row_of_a_teachers_feature_that_has_changed_is_refused(file: Path, tmp_path: Path) -> None:
    """The message names a training clip whose row does not match its checksum."""
    train = make_subsets(tmp_path)["train"]
    make_store(tmp_path / "mfcc.h5", make_rows(), clips=train.store.clips)
    row = int(train.rows[5])
    change_row(tmp_path / "mfcc.h5", row)
    with pytest.raises(PipelineError, match=rf"the row of {train.store.clips[row]} has changed since"):
        teacher.load(_settings(file, teacher_feature="mfcc"), train)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"labels": ["no", "oui"]}, r"was trained on the labels no, oui, expected no, yes"),
        (
            {"labels": ["no", "yes"], "feature": {"params": {"n_mels": 8}}},
            r"was trained on a feature with \{'n_mels': 8\}, .* has \{\}: correct train\.teacher_feature",
        ),
    ],
    ids=["labels", "feature"],
)
def test_a_teacher_that_says_what_it_learned_is_checked(
    description: dict[str, Any], message: str, subsets: dict[str, Subset], tmp_path: Path
) -> None:
    """A teacher of equal shapes, but of other labels or another feature, is an error."""
    path = tmp_path / "teacher.keras"
    save(build(MODELS["cnn"], subsets["train"], TRAIN), path, description)
    with pytest.raises(PipelineError, match=message):
        teacher.load(_settings(path), subsets["train"])
    fitting = {"labels": ["no", "yes"], "feature": {"params": {}}}
    save(build(MODELS["cnn"], subsets["train"], TRAIN), path, fitting)
    assert teacher.load(_settings(path), subsets["train"]) is not None
