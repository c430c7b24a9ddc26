"""The clips that are shown, and what is written of them."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.report import examples
from pipeline.report.examples import Examples
from pipeline.store.layout import describe
from pipeline.store.reader import rows


def test_one_clip_of_each_label_is_chosen_by_seed() -> None:
    """Labels are in order, seeds choose differently, and a label's clip does not depend on other labels."""
    clips = [f"{label}/{number}.wav" for label in ("go", "no", "yes") for number in range(50)]
    chosen = examples.choose(clips, 0)
    assert [clips[row].partition("/")[0] for row in chosen] == ["go", "no", "yes"]
    assert len({tuple(examples.choose(clips, seed)) for seed in range(5)}) == 5
    more = ["down/1.wav", *clips[:100]]
    expected = ["down/1.wav", *(clips[row] for row in chosen[:2])]
    assert [more[row] for row in examples.choose(more, 0)] == expected


@pytest.mark.tensorflow
def test_what_is_heard_is_what_is_stored(finished: Path) -> None:
    """A clip's file holds its waveform to 16 bits, rebuilt ones are as long, and the index has all."""
    folder = finished / "results/examples"
    index = json.loads((folder / "index.json").read_text())
    waveforms = describe(finished / "data/waveforms.h5")
    assert [each["clip"].partition("/")[0] for each in index["clips"]] == waveforms.labels
    for number, each in enumerate(index["clips"]):
        heard, rate = soundfile.read(folder / f"{number}.flac", dtype="float32")
        assert rate == 22050
        stored = rows(waveforms)[waveforms.clips.index(each["clip"])]
        np.testing.assert_allclose(heard, np.clip(stored, -1, 1), atol=1.01 / 32768)
        assert each["features"] == each["heard"] == ["stft", "logmel", "mfcc"]
        for name in each["heard"]:
            assert len(soundfile.read(folder / f"{number}-{name}.flac")[0]) == len(stored)
    assert {path.name for path in (folder / "images").iterdir()} == {"0-go.png", "1-stop.png", "2-yes.png"}


@pytest.mark.tensorflow
def test_both_transforms_agree(finished: Path) -> None:
    """tf.signal.stft and librosa.stft of the first clip differ by a millionth of the largest magnitude."""
    agreement = json.loads((finished / "results/examples/index.json").read_text())["agreement"]
    assert 0 < agreement["apart"] < 1e-6 * agreement["largest"]


@pytest.mark.tensorflow
def test_features_may_be_any(finished: Path, tmp_path: Path) -> None:
    """Without an STFT there is no comparison of transforms, and nothing of it is drawn."""
    stores = [describe(finished / "data/features/mfcc.h5")]
    waveforms = describe(finished / "data/waveforms.h5")
    done = list(examples.write(tmp_path / "out", waveforms, stores, Examples(seed=0, iterations=1)))
    index = json.loads((tmp_path / "out" / "index.json").read_text())
    assert [each["clip"] for each in index["clips"]] == done
    assert "agreement" not in index
    assert {path.name for path in (tmp_path / "out").glob("0*")} == {
        "0.svg", "0.flac", "0-mfcc.svg", "0-mfcc.flac"
    }  # fmt: skip


def test_sounds_beyond_full_scale_are_cut() -> None:
    """A sample above 1 is the loudest that 16 bits hold, and does not come out negative."""
    from pipeline.report.sounds import flac

    samples = np.array([0, 0.5, 1.5, -2.0] * 100, np.float32)
    heard, _ = soundfile.read(io.BytesIO(flac(samples, 8000)))
    np.testing.assert_allclose(heard[:4], [0, 0.5, 1, -1], atol=1e-4)
