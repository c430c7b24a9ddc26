"""The example clips: which are chosen, and which files are written."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.errors import PipelineError
from pipeline.report import examples
from pipeline.report.examples import Examples
from pipeline.store.layout import describe
from pipeline.store.reader import rows
from tests.project import read_csv
from tests.store.make import change_row


def test_one_clip_of_each_label_is_chosen_by_seed() -> None:
    """Labels are in order, seeds choose different clips, and another label does not change the choice."""
    labels = [label for label in ("go", "no", "yes") for _ in range(50)]
    chosen = examples.choose(labels, 0)
    assert [labels[row] for row in chosen] == ["go", "no", "yes"]
    assert len({tuple(examples.choose(labels, seed)) for seed in range(5)}) == 5
    assert examples.choose(["down", *labels[:100]], 0) == [0, *(row + 1 for row in chosen[:2])]


@pytest.mark.tensorflow
def test_sounds_are_those_of_the_stores(finished: Path) -> None:
    """A clip's sound is its waveform in 16 bits, those of features are as long, and the index lists all."""
    folder = finished / "results/examples"
    index = json.loads((folder / "index.json").read_text())
    waveforms = describe(finished / "data/waveforms.h5")
    label_of = {row["clip"]: row["label"] for row in read_csv(finished / "data/clips.csv")}
    assert [example["label"] for example in index["clips"]] == sorted(set(label_of.values()))
    assert all(label_of[example["clip"]] == example["label"] for example in index["clips"])
    for number, example in enumerate(index["clips"]):
        samples, rate = soundfile.read(folder / f"{number}.flac", dtype="float32")
        assert rate == waveforms.params["audio"]["sample_rate"]
        stored = rows(waveforms)[waveforms.clips.index(example["clip"])]
        np.testing.assert_allclose(samples, np.clip(stored, -1, 1), atol=1.01 / 32768)
        assert example["features"] == example["audible"] == ["stft", "logmel", "mfcc", "speech"]
        for name in example["audible"]:
            assert len(soundfile.read(folder / f"{number}-{name}.flac")[0]) == len(stored)
    assert {path.name for path in (folder / "images").iterdir()} == {
        "0-_background_noise_.png",
        "1-go.png",
        "2-stop.png",
        "3-yes.png",
    }


@pytest.mark.tensorflow
def test_features_may_be_any(finished: Path, tmp_path: Path) -> None:
    """A single feature can be drawn too."""
    stores = [describe(finished / "data/features/mfcc.h5")]
    waveforms = describe(finished / "data/waveforms.h5")
    labels = ["all"] * len(waveforms.clips)
    done = list(examples.write(tmp_path / "out", waveforms, labels, stores, Examples(seed=0, iterations=1)))
    index = json.loads((tmp_path / "out" / "index.json").read_text())
    assert [each["clip"] for each in index["clips"]] == done
    assert {path.name for path in (tmp_path / "out").glob("0*")} == {
        "0.svg", "0.flac", "0-mfcc.svg", "0-mfcc.flac"
    }  # fmt: skip


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", ["waveforms.h5", "features/mfcc.h5"])
def test_a_row_that_has_changed_is_not_drawn(tmp_path: Path, finished: Path, name: str) -> None:
    """The message names the clip, and no file of it is written."""
    shutil.copytree(finished / "data", tmp_path / "data", ignore=shutil.ignore_patterns("raw", "kept"))
    waveforms, store = (describe(tmp_path / "data" / path) for path in ("waveforms.h5", "features/mfcc.h5"))
    labels = ["all"] * len(waveforms.clips)
    (row,) = examples.choose(labels, 0)
    change_row(tmp_path / "data" / name, row)
    with pytest.raises(PipelineError, match=rf"{name}: the row of {waveforms.clips[row]} has changed since"):
        list(examples.write(tmp_path / "out", waveforms, labels, [store], Examples(seed=0, iterations=1)))
    assert list((tmp_path / "out").rglob("*.*")) == []


def test_sounds_beyond_full_scale_are_clipped() -> None:
    """A sample above 1 becomes the largest value of 16 bits, and not a negative one."""
    from pipeline.report.sounds import flac

    samples = np.array([0, 0.5, 1.5, -2.0] * 100, np.float32)
    heard, _ = soundfile.read(io.BytesIO(flac(samples, 8000)))
    np.testing.assert_allclose(heard[:4], [0, 0.5, 1, -1], atol=1e-4)
