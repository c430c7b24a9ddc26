"""Saved models: equal models are equal files."""

import json
import zipfile
from pathlib import Path

import pytest

from pipeline.kerasfile import description, precision
from pipeline.learning.saving import save
from tests.learning.make import MODELS, TRAIN, build, make_subsets

pytestmark = pytest.mark.tensorflow


def test_the_saved_file_has_no_date(tmp_path: Path) -> None:
    """Neither the zip's entries nor Keras's metadata say when the model was saved; nothing else is left."""
    subsets = make_subsets(tmp_path)
    save(build(MODELS["rnn"], subsets["train"], TRAIN), tmp_path / "saved/model.keras")
    with zipfile.ZipFile(tmp_path / "saved/model.keras") as file:
        assert {info.date_time for info in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert json.loads(file.read("metadata.json"))["date_saved"] is None
    assert [path.name for path in (tmp_path / "saved").iterdir()] == ["model.keras"]
    assert precision(tmp_path / "saved/model.keras") == "float32"


def test_a_description_is_kept_and_ignored_by_keras(tmp_path: Path) -> None:
    """The file's metadata has the description, and Keras loads the same network."""
    import keras

    subsets = make_subsets(tmp_path)
    net = build(MODELS["cnn"], subsets["train"], TRAIN)
    save(net, tmp_path / "model.keras", {"labels": ["no", "yes"], "audio": {"sample_rate": 16000}})
    found = description(tmp_path / "model.keras")
    assert (found["labels"], found["audio"]) == (["no", "yes"], {"sample_rate": 16000})
    assert found["date_saved"] is None
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert all((a == b).all() for a, b in zip(net.get_weights(), loaded.get_weights(), strict=True))
