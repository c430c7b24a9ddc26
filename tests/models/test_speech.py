"""The speech embedding: the package's own numbers, its weights, and how it is frozen and tuned."""

import io
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from pipeline import params
from pipeline.errors import PipelineError
from pipeline.features import Feature
from pipeline.learning.batches import Subset
from pipeline.models import speech
from pipeline.models.speech import Speech
from tests.learning.make import SPEECH, TRAIN, build, make_speech_subsets, train

pytestmark = pytest.mark.tensorflow

FRAMES = 97


def model(**changes: Any) -> Speech:
    return Speech(**{**SPEECH.model_dump(by_alias=True), "padding": 25, **changes})


def network(model: Speech, frames: int = FRAMES, bins: int = 32) -> Any:
    import keras

    inputs = keras.Input((frames, bins))
    return keras.Model(inputs, model.logits(inputs, 8))


@pytest.fixture(scope="module")
def package() -> Path:
    """The folder of the package that has the weights."""
    return speech._packaged().parent


def test_the_embedding_is_the_packages_own(real_archive: Path, package: Path) -> None:
    """On 50 real clips, `features.speech` and the Keras network give the package's vectors within 1e-3.

    The package's two ONNX networks, run by onnxruntime, turn the waveform into the feature, and the feature
    into one vector for every 8th frame.
    """
    import onnxruntime

    with zipfile.ZipFile(real_archive) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".wav") and "MACOSX" not in name)
        clips = [soundfile.read(io.BytesIO(archive.read(name)), dtype="float32")[0] for name in names[::65]]
    waveforms = np.stack(clips[:50])
    assert waveforms.shape == (50, 16_000)
    mel, vectors = (
        onnxruntime.InferenceSession(package / name) for name in ("melspectrogram.onnx", speech.FILE)
    )
    name = mel.get_inputs()[0].name
    scaled = [mel.run(None, {name: clip[None]})[0].reshape(-1, 32) / 10 + 2 for clip in waveforms]
    windows = np.stack([clip[first : first + 76] for clip in scaled for first in (0, 8, 16)])
    expected = vectors.run(None, {vectors.get_inputs()[0].name: windows[..., None]})[0].reshape(50, 3, 96)
    feature = params.read_plugin("features.speech", Feature).kernel(16_000)(waveforms)
    np.testing.assert_allclose(feature / 10 + 2, scaled, atol=1e-4)
    embedding = speech.embedding(FRAMES)
    embedding.set_weights(speech.pretrained("google"))
    found = embedding.predict(feature / 10 + 2, verbose=0)
    assert np.abs(found).max() > 10
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_the_embedding_has_the_documented_size() -> None:
    """20 convolutions with 328,128 weights, and with 128 units and 8 labels 366,344 that are trained."""
    whole = network(model(units=128))
    embedding = whole.get_layer("embedding")
    assert sum("conv" in layer.name for layer in embedding.layers) == 20
    assert embedding.count_params() == 328_128
    assert sum(np.prod(weight.shape) for weight in whole.trainable_weights) == 366_344


def test_silence_surrounds_the_clip() -> None:
    """The embedding sees 25 frames of the clip's lowest value on both sides, divided by 10, plus 2."""
    import keras

    whole = network(model())
    values = np.random.default_rng(0).uniform(-90, -10, (2, FRAMES, 32)).astype(np.float32)
    inside = keras.Model(whole.input, whole.get_layer("scaled").output).predict(values, verbose=0)
    assert inside.shape == (2, 25 + FRAMES + 25, 32)
    np.testing.assert_allclose(inside[:, 25:-25], values / 10 + 2, atol=1e-5)
    for clip, padded in zip(values, inside, strict=True):
        np.testing.assert_allclose(padded[[*range(25), *range(-25, 0)]], clip.min() / 10 + 2, atol=1e-5)


def test_random_weights_are_not_the_pretrained() -> None:
    """With `weights: null`, the embedding starts from random weights, and no epoch is frozen."""
    whole = network(model(weights=None))
    kernel = np.asarray(whole.get_layer("embedding").get_layer("conv1").kernel)
    assert not np.allclose(kernel, speech.pretrained("google")[0])
    assert list(model(weights=None).phases(whole, 9)) == [(9, 1.0)]
    assert whole.get_layer("embedding").trainable


def test_weights_come_from_a_path(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An absolute path, or one relative to the project, also in a queued run, gives the file's weights."""
    path = tmp_path / "mine.onnx"
    path.write_bytes((package / speech.FILE).read_bytes())
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "copy"
    copy.mkdir(parents=True)
    for folder, weights in ((Path.cwd(), str(path)), (tmp_path, "mine.onnx"), (copy, "mine.onnx")):
        monkeypatch.chdir(folder)
        assert model(weights=weights).problems(speech.FEATURE, 16_000) == []
        for mine, packaged in zip(speech.pretrained(weights), speech.pretrained("google"), strict=True):
            np.testing.assert_array_equal(mine, packaged)


def test_a_path_without_a_file_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`check` and training say so, and name the path."""
    monkeypatch.chdir(tmp_path)
    (problem,) = model(weights="none.onnx").problems(speech.FEATURE, 16_000)
    assert problem.startswith("must have weights google, null, or the path")
    assert "has 'none.onnx', but there is no such file" in problem


def test_another_network_is_an_error(package: Path) -> None:
    """A file with other weights is named, with the shapes found and expected."""
    with pytest.raises(
        PipelineError,
        match=r"melspectrogram\.onnx: .* whose 39 weights begin with \[\(3, 3, 1, 24\).*found",
    ):
        speech.pretrained(str(package / "melspectrogram.onnx"))


@pytest.mark.parametrize(("damage", "message"), [("short", "with weights inside"), ("nan", "not finite")])
def test_damaged_weights_are_an_error(package: Path, tmp_path: Path, damage: str, message: str) -> None:
    """A weight that is cut short, or not a number, is an error that names the file."""
    import onnx

    network = onnx.load(package / speech.FILE)
    first = next(array for array in network.graph.initializer if len(array.dims) == 4)
    whole = onnx.numpy_helper.to_array(first)
    first.ClearField("float_data")
    first.raw_data = whole.tobytes()[:-4] if damage == "short" else np.full_like(whole, np.nan).tobytes()
    onnx.save(network, tmp_path / "bad.onnx")
    with pytest.raises(PipelineError, match=rf"bad\.onnx.*{message}.*models\.speech\.weights"):
        speech.pretrained(str(tmp_path / "bad.onnx"))


def test_a_file_that_is_no_network_is_an_error(tmp_path: Path) -> None:
    """The message names the file."""
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(PipelineError, match=r"bad\.onnx is not an ONNX file"):
        speech.pretrained(str(tmp_path / "bad.onnx"))


def test_a_damaged_package_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the package's file has another sha256, the message says how to install it again."""
    (tmp_path / speech.FILE).write_bytes(b"damaged")
    monkeypatch.setattr(speech, "_packaged", lambda: tmp_path / speech.FILE)
    with pytest.raises(PipelineError, match=r"expected sha256 70d1642.*found .*--force-reinstall"):
        speech.pretrained("google")


def test_a_missing_package_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, the message has the command that installs it."""

    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", missing)
    with pytest.raises(PipelineError, match=r"not installed: run pip install '\.\[speech\]'"):
        speech.pretrained("google")
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(PipelineError, match=r"not installed: run pip install '\.\[speech\]'"):
        speech.pretrained("google")


@pytest.mark.parametrize(
    ("frames", "bins", "message"), [(FRAMES, 40, "needs 32 bins"), (20, 32, "needs at least 26 frames")]
)
def test_another_feature_is_an_error(frames: int, bins: int, message: str) -> None:
    """With 40 bins, or too few frames, the message says what the model needs."""
    with pytest.raises(ValueError, match=message):
        network(model(), frames, bins)


def test_the_chosen_feature_must_be_the_pretrained_ones() -> None:
    """`check` and training name each parameter that differs, and another sample rate."""
    assert model().problems(speech.FEATURE, 16_000) == []
    assert model(weights=None).problems({"kind": "mfcc"}, 22_050) == []
    (hop,) = model().problems({**speech.FEATURE, "hop_length": 128}, 16_000)
    assert "the chosen one has hop_length 128 instead of 160: add -S feature=speech" in hop
    (rate,) = model().problems(speech.FEATURE, 22_050)
    assert rate.startswith("needs clips at 16000 Hz, audio.sample_rate is 22050")
    section = {name: value for name, value in params.load()["features"]["speech"].items() if name != "dtype"}
    assert section == speech.FEATURE


def test_a_normalised_feature_is_an_error() -> None:
    """The model's section must switch the normalisation off."""
    with pytest.raises(ValueError, match=r"must have train\.normalize: none"):
        model(train={})


@pytest.fixture(scope="module")
def subsets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Subset]:
    return make_speech_subsets(tmp_path_factory.mktemp("subsets"))


def test_the_embedding_is_frozen_then_tuned(subsets: dict[str, Subset], tmp_path: Path) -> None:
    """The first epochs leave the pretrained weights alone, and the later ones change them."""
    pretrained = speech.pretrained("google")
    small = SPEECH.model_copy(update={"frozen_epochs": 2})
    for epochs, changed in ((2, False), (3, True)):
        settings = TRAIN.model_copy(update={"normalize": "none", "epochs": epochs})
        net = build(small, subsets["train"], settings)
        train(small, net, subsets, settings, tmp_path / f"logs{epochs}")
        pairs = zip(pretrained, net.get_layer("embedding").get_weights(), strict=True)
        assert changed == any((before != after).any() for before, after in pairs)
