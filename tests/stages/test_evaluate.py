"""The stage `evaluate` on models and tables that are not those of this run."""

import io
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import PipelineError
from pipeline.stages import evaluate, export
from pipeline.store.layout import describe
from tests.project import read_csv
from tests.store.make import change_row

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def folder(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data, models and results of a finished run, in the current folder."""
    ignored = shutil.ignore_patterns("raw", "archive", "kept", "examples")
    for name in ("data", "models", "results"):
        shutil.copytree(finished / name, tmp_path / name, ignore=ignored)
    shutil.copy(finished / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _edit(name: str, change: Callable[[str], str]) -> Callable[[], None]:
    def edit() -> None:
        path = Path(name)
        text = path.read_text(encoding="utf-8")
        path.write_text(change(text), encoding="utf-8")
        assert path.read_text(encoding="utf-8") != text

    return edit


def _describe(**changes: Any) -> Callable[[], None]:
    """Let the model say something else of itself."""
    return partial(_edit_description, lambda described: {**described, **changes})


def _undescribe() -> None:
    """Let the model say nothing of itself."""
    _edit_description(lambda _: {})


def _edit_description(change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    path, out = Path("models/model.keras"), io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "metadata.json":
                content = json.dumps(change(json.loads(content))).encode()
            new.writestr(name, content)
    path.write_bytes(out.getvalue())


def _predict_another_shape() -> None:
    import keras

    inputs = keras.Input((12, 25))
    outputs = keras.layers.Dense(3)(keras.layers.Flatten()(inputs))
    keras.Model(inputs, outputs).save("models/model.keras")


def swap(label: re.Match[str]) -> str:
    return ",yes,test" if label[1] == "go" else ",go,test"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda: Path("models/model.keras").write_bytes(b""),
            "Keras cannot load models/model.keras: it is no zip archive",
        ),
        (lambda: Path("models/model.keras").unlink(), "models/model.keras is missing: run dvc repro"),
        (
            _describe(labels=["a", "b", "c"]),
            "model.keras was trained on the labels a, b, c, expected go, stop,",
        ),
        (_undescribe, "model.keras does not say its feature and labels, as every model of this pipeline"),
        (
            _describe(feature={"params": {}}),
            "model.keras was trained on a feature with {}, data/features/stft",
        ),
        (
            _predict_another_shape,
            "model.keras takes 12 x 25 .* expected 122 x 257, the shape of data/features",
        ),
        (_edit("results/train/metrics.json", lambda _: "{}"), "train/metrics.json: best is missing"),
        (_edit("data/clips.csv", lambda text: text[:-20]), "data/clips.csv is cut short"),
        (
            _edit("data/clips.csv", lambda text: re.sub(r"\nyes/.*", "", text, count=1)),
            "data/clips.csv has 53 clips, and the store 54; yes/.* is only in the store",
        ),
        (_edit("data/split.csv", lambda text: text.replace("test", "tset", 1)), "column split: expected"),
        (
            _edit("data/split.csv", lambda text: text.replace(",yes,test", ",yess,test", 1)),
            "the label 'yes' has clips in train and val, expected one or more in",
        ),
        (
            _edit("data/split.csv", lambda text: re.sub(",(go|yes),test", swap, text)),
            "data/split.csv: the label of go/.* is yes, but go in data/clips.csv",
        ),
    ],
)
def test_what_is_not_of_this_run_is_one_message(
    folder: Path, damage: Callable[[], None], message: str
) -> None:
    """The message names the file and says what to do. The scores stay as they were."""
    scores = folder / "results/metrics.json"
    before = scores.read_bytes()
    damage()
    with pytest.raises(PipelineError, match=message) as error:
        evaluate.main()
    assert "\n" not in str(error.value)
    assert "run dvc" in str(error.value)
    assert scores.read_bytes() == before


@pytest.mark.parametrize("main", [evaluate.main, export.main], ids=["evaluate", "export"])
def test_a_waveform_that_has_changed_is_refused(folder: Path, main: Callable[[], None]) -> None:
    """Scores in noise and exported models are computed from waveforms, which are compared before that."""
    tested = [row["clip"] for row in read_csv(folder / "data/split.csv") if row["split"] == "test"]
    path = folder / "data/waveforms.h5"
    change_row(path, describe(path).clips.index(tested[-1]))
    with pytest.raises(PipelineError, match=rf"the row of {tested[-1]} has changed since it was written"):
        main()


def test_a_model_that_does_not_describe_itself_is_not_exported(folder: Path) -> None:
    """Without its labels and its sample rate, an exported model would be of no use."""
    del folder
    _describe(audio=7)()
    with pytest.raises(
        PipelineError, match=r"model\.keras does not say what its labels and .*: run dvc check"
    ):
        export.main()
