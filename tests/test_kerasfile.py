"""Trained models that are damaged or forged: one message each, and no code of theirs runs."""

import io
import json
import random
import re
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import kerasfile
from pipeline.errors import PipelineError
from pipeline.kerasfile import CONFIG, METADATA
from pipeline.learning.saving import misfit, save
from tests.damage import damaged, flipped
from tests.learning.make import MODELS, TRAIN, build, make_subsets

pytestmark = pytest.mark.tensorflow

WEIGHTS = "model.weights.h5"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The content of a saved model."""
    folder = tmp_path_factory.mktemp("model")
    subsets = make_subsets(folder)
    save(build(MODELS["rnn"], subsets["train"], TRAIN), folder / "model.keras", {"labels": ["no", "yes"]})
    return (folder / "model.keras").read_bytes()


def _changed(content: bytes, name: str, change: Callable[[bytes], bytes | None]) -> bytes:
    """Return the zip archive `content` with the file `name` changed, or without it."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for entry in old.namelist():
            part = change(old.read(entry)) if entry == name else old.read(entry)
            if part is not None:
                new.writestr(zipfile.ZipInfo(entry), part, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _layer(**change: Any) -> Callable[[bytes], bytes]:
    def edit(config: bytes) -> bytes:
        content = json.loads(config)
        content["config"]["layers"][1].update(change)
        return json.dumps(content).encode()

    return edit


LAMBDA = {"function": {"class_name": "__lambda__", "config": {"code": "4wEAAA=="}}, "name": "l"}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda _: b"", "it is no zip archive, or its end is missing"),
        (lambda _: b"no model", "it is no zip archive, or its end is missing"),
        (lambda good: good[: len(good) // 2], "it is no zip archive, or its end is missing"),
        (lambda good: good[:-1], "it is no zip archive, or its end is missing"),
        (lambda good: _changed(good, METADATA, lambda _: None), "it has no metadata.json"),
        (lambda good: _changed(good, METADATA, lambda _: b"{"), "metadata.json is not JSON"),
        (
            lambda good: _changed(good, METADATA, lambda _: b"[]"),
            "metadata.json: expected a valid dictionary",
        ),
        (
            lambda good: _changed(good, METADATA, lambda _: bytes(65 << 20)),
            "bytes, expected at most 67108864",
        ),
        (lambda good: _changed(good, CONFIG, lambda _: None), "it has no config.json"),
        (lambda good: _changed(good, CONFIG, lambda _: b"[]"), "Keras cannot load .*instance of"),
        (
            lambda good: _changed(good, CONFIG, _layer(class_name="Lambda", config=LAMBDA)),
            "Keras cannot load",
        ),
        (
            lambda good: _changed(good, CONFIG, _layer(class_name="Unknown", module="own")),
            "Keras cannot load",
        ),
        (lambda good: _changed(good, CONFIG, _layer(class_name="system", module="os")), "Keras cannot load"),
        (lambda good: _changed(good, WEIGHTS, lambda _: None), "Keras cannot load .*weights"),
        (lambda good: _changed(good, WEIGHTS, lambda part: part[:99]), "Keras cannot load .*truncated file"),
    ],
)
def test_a_damaged_model_is_one_message(
    good: bytes, tmp_path: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    """The message names the file, what is wrong with it, and what to do, on one line."""
    path = tmp_path / "model.keras"
    path.write_bytes(damage(good))
    with pytest.raises(PipelineError, match=message) as error:
        _load(path)
    assert str(error.value).endswith(f"run dvc checkout --force {path}, or dvc repro, to get it back")
    assert "\n" not in str(error.value)
    with pytest.raises(PipelineError, match=r": train another$"):
        _load(path, remedy="train another")


def _load(path: Path, remedy: str | None = None) -> Any:
    """Read all that a stage reads of a model."""
    kerasfile.description(path, remedy=remedy)
    kerasfile.precision(path, remedy=remedy)
    return kerasfile.load(path, remedy=remedy)


def test_a_missing_model_is_one_message(tmp_path: Path) -> None:
    """A missing file, and a folder."""
    with pytest.raises(PipelineError, match=r"model\.keras is missing: run dvc repro"):
        kerasfile.load(tmp_path / "model.keras")
    with pytest.raises(PipelineError, match=r"must be a file, is a folder"):
        kerasfile.load(tmp_path)


def test_python_code_in_a_model_does_not_run(tmp_path: Path) -> None:
    """Keras would run the code of a Lambda layer. It is refused, and so is the whole model."""
    import keras

    inputs = keras.Input((3,))
    keras.Model(inputs, keras.layers.Lambda(lambda x: 2 * x)(inputs)).save(tmp_path / "model.keras")
    with pytest.raises(PipelineError, match=r"Keras cannot load .*Lambda"):
        kerasfile.load(tmp_path / "model.keras")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_whose_weights_are_not_finite_is_refused(good: bytes, tmp_path: Path, value: float) -> None:
    """It would predict nothing but NaN. The message names the weights."""
    path = tmp_path / "model.keras"
    path.write_bytes(good)
    network = kerasfile.load(path)
    *others, last = network.get_weights()
    network.set_weights([*others, np.full_like(last, value)])
    save(network, path)
    with pytest.raises(PipelineError, match=r"its weights logits/bias are not finite"):
        kerasfile.load(path)


def test_a_model_of_other_clips_does_not_fit(good: bytes, tmp_path: Path) -> None:
    """A model that takes another shape, or has other labels, or was trained on another feature."""
    (tmp_path / "model.keras").write_bytes(good)
    network = kerasfile.load(tmp_path / "model.keras")
    store = make_subsets(tmp_path)["train"].store
    fitting = {"labels": ["no", "yes"], "feature": store.params["feature"]}
    for changes, labels, message in (
        ({}, ["no", "yes"], None),
        ({}, ["no", "oui", "yes"], "returns 2 logits, expected 12 x 40, the shape of .* and 3, the number"),
        ({"labels": ["a", "b"]}, ["no", "yes"], "was trained on the labels a, b, expected no, yes"),
        ({"labels": 7}, ["no", "yes"], "was trained on the labels 7, expected no, yes"),
        ({"labels": None}, ["no", "yes"], "was trained on the labels None, expected no, yes"),
        ({"feature": {"params": {"n": 1}}}, ["no", "yes"], "was trained on a feature with {'n': 1}"),
        ({"feature": [1]}, ["no", "yes"], r"was trained on a feature with \[1\]"),
        ({"feature": {}}, ["no", "yes"], "was trained on a feature with None"),
    ):
        problem = misfit(network, {**fitting, **changes}, store, labels)
        assert (problem is None) if message is None else re.search(message, str(problem))
    assert "does not say its feature and labels" in str(misfit(network, {}, store, ["no", "yes"]))


def test_a_model_damaged_at_random_is_refused_or_a_network(good: bytes, tmp_path: Path) -> None:
    """Of 40 damaged models, each is one message, or a network with finite weights."""
    path, refused = tmp_path / "model.keras", 0
    for seed in range(40):
        generator = random.Random(seed)  # noqa: S311
        part = generator.choice((None, METADATA, CONFIG, WEIGHTS))
        if part is None:
            content = generator.choice((good[: generator.randrange(len(good))], flipped(good, generator)))
        elif part == WEIGHTS:
            content = _changed(good, part, partial(flipped, generator=generator))
        else:
            content = _changed(good, part, partial(damaged, generator=generator))
        path.write_bytes(content)
        try:
            network = _load(path)
        except PipelineError as error:
            assert "\n" not in str(error)  # noqa: PT017
            refused += 1
        else:
            assert all(np.isfinite(weight).all() for weight in network.get_weights())
    assert refused > 15
