"""The example clips: which are chosen, and which files are written."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.files import label_of
from pipeline.report import examples
from pipeline.report.examples import Examples
from pipeline.store.layout import describe
from pipeline.store.reader import rows


def test_one_clip_of_each_label_is_chosen_by_seed() -> None:
    """Labels are in order, seeds choose different clips, and another label does not change the choice."""
    clips = [f"{label}/{number}.wav" for label in ("go", "no", "yes") for number in range(50)]
    chosen = examples.choose(clips, 0)
    assert [label_of(clips[row]) for row in chosen] == ["go", "no", "yes"]
    assert len({tuple(examples.choose(clips, seed)) for seed in range(5)}) == 5
    more = ["down/1.wav", *clips[:100]]
    expected = ["down/1.wav", *(clips[row] for row in chosen[:2])]
    assert [more[row] for row in examples.choose(more, 0)] == expected


@pytest.mark.tensorflow
def test_sounds_are_those_of_the_stores(finished: Path) -> None:
    """A clip's sound is its waveform in 16 bits, those of features are as long, and the index lists all."""
    folder = finished / "results/examples"
    index = json.loads((folder / "index.json").read_text())
    waveforms = describe(finished / "data/waveforms.h5")
    assert [label_of(example["clip"]) for example in index["clips"]] == waveforms.labels
    for number, example in enumerate(index["clips"]):
        samples, rate = soundfile.read(folder / f"{number}.flac", dtype="float32")
        assert rate == waveforms.params["audio"]["sample_rate"]
        stored = rows(waveforms)[waveforms.clips.index(example["clip"])]
        np.testing.assert_allclose(samples, np.clip(stored, -1, 1), atol=1.01 / 32768)
        assert example["features"] == example["audible"] == ["stft", "logmel", "mfcc", "speech"]
        for name in example["audible"]:
            assert len(soundfile.read(folder / f"{number}-{name}.flac")[0]) == len(stored)
    assert {path.name for path in (folder / "images").iterdir()} == {"0-go.png", "1-stop.png", "2-yes.png"}


@pytest.mark.tensorflow
def test_features_may_be_any(finished: Path, tmp_path: Path) -> None:
    """A single feature can be drawn too."""
    stores = [describe(finished / "data/features/mfcc.h5")]
    waveforms = describe(finished / "data/waveforms.h5")
    done = list(examples.write(tmp_path / "out", waveforms, stores, Examples(seed=0, iterations=1)))
    index = json.loads((tmp_path / "out" / "index.json").read_text())
    assert [each["clip"] for each in index["clips"]] == done
    assert {path.name for path in (tmp_path / "out").glob("0*")} == {
        "0.svg", "0.flac", "0-mfcc.svg", "0-mfcc.flac"
    }  # fmt: skip


def test_sounds_beyond_full_scale_are_clipped() -> None:
    """A sample above 1 becomes the largest value of 16 bits, and not a negative one."""
    from pipeline.report.sounds import flac

    samples = np.array([0, 0.5, 1.5, -2.0] * 100, np.float32)
    heard, _ = soundfile.read(io.BytesIO(flac(samples, 8000)))
    np.testing.assert_allclose(heard[:4], [0, 0.5, 1, -1], atol=1e-4)
