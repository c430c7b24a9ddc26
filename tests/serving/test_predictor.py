"""Recordings and waveforms, classified by models of every format."""

import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from pipeline.corpus.audio import Undecodable, decode
from pipeline.errors import PipelineError
from pipeline.serving import Predictor
from pipeline.serving.export import PATHS
from tests.damage import flipped
from tests.learning.make import MODELS
from tests.project import Record
from tests.serving import make

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small model in all formats, and as model.keras."""
    folder = tmp_path_factory.mktemp("models")
    make.export(folder, MODELS["dscnn"], make.FEATURES["logmel"], *PATHS)
    return folder


def test_every_format_gives_the_same_answers(folder: Path) -> None:
    """LiteRT, ONNX, a SavedModel and model.keras itself give the same probabilities, `micro` similar ones."""
    clips = make.waveforms()
    expected = Predictor(folder / "model.tflite")(clips)
    assert expected.shape == (24, 3)
    assert expected.dtype == np.float32
    np.testing.assert_allclose(expected.sum(axis=1), 1, atol=1e-6)
    for name in ("model.keras", "model.onnx", "saved_model", "micro"):
        predictor = Predictor(folder / name)
        assert predictor.labels == make.LABELS
        np.testing.assert_allclose(predictor(clips), expected, atol=0.1 if name == "micro" else 1e-4)


@pytest.mark.parametrize("shape", [(8000,), (2, 7999), (1, 2, 8000)])
def test_waveforms_of_another_shape_are_an_error(folder: Path, shape: tuple[int, ...]) -> None:
    """The message has the expected shape and the one that was given."""
    with pytest.raises(ValueError, match=r"must have the shape \(clips, 8000\), have \("):
        Predictor(folder / "model.tflite")(np.zeros(shape, np.float32))


def test_recordings_are_decoded_like_clips(folder: Path, record: Record) -> None:
    """A file of any format, rate, length and number of channels has the prediction of its waveform."""
    predictor = Predictor(folder / "model.tflite")
    paths = [
        record("a.wav", samples=8000),
        record("b.flac", rate=44100, samples=12345, channels=2),
        record("c.ogg", rate=22050, samples=30000),
        record("d.wav", samples=100, subtype="FLOAT"),
    ]
    waveforms, _ = decode([path.read_bytes() for path in paths], **make.AUDIO)
    for path, prediction, row in zip(paths, predictor.files(paths), predictor(waveforms), strict=True):
        assert prediction.path == str(path)
        assert prediction.problem is None
        assert prediction.probabilities == pytest.approx(dict(zip(make.LABELS, row.tolist(), strict=True)))
        assert list(prediction.probabilities.values()) == sorted(row.tolist(), reverse=True)
        assert prediction.label == make.LABELS[int(row.argmax())]
        assert prediction.probability == pytest.approx(row.max())
        assert prediction.is_cut == (path.name == "c.ogg")


def test_a_file_that_cannot_be_read_has_a_problem(folder: Path, record: Record, tmp_path: Path) -> None:
    """The others are predicted, in the order in which they were given, also across batches."""
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("no sound")
    good = record("good.wav")
    paths = [tmp_path / "empty.wav", good, tmp_path / "text.wav", tmp_path / "none.wav", *[good] * 70]
    predictions = list(Predictor(folder / "model.tflite").files(paths))
    assert [prediction.path for prediction in predictions] == [str(path) for path in paths]
    problems = [prediction.problem for prediction in predictions]
    with pytest.raises(ValueError, match=r"none\.wav: No such file or directory"):
        _ = predictions[3].label
    assert [prediction.path for prediction in Predictor(folder / "model.tflite").files(str(good))] == [
        str(good)
    ]
    assert problems[1] is None
    assert problems[4:] == [None] * 70
    assert problems[3] == "No such file or directory"
    assert problems[0] == "is empty"
    assert "is in no known format" in str(problems[2])
    assert len({str(prediction.probabilities) for prediction in predictions if not prediction.problem}) == 1


def test_words_in_a_long_recording_are_heard_where_they_are(folder: Path, tmp_path: Path) -> None:
    """In a recording of three clips, each label is heard in the window of its clip."""
    predictor = Predictor(folder / "model.tflite")
    clips = make.waveforms()[:3]
    soundfile.write(tmp_path / "long.wav", np.concatenate(clips), 16000, subtype="FLOAT")
    content = (tmp_path / "long.wav").read_bytes()
    words = predictor.listen(content, hop=0.5, threshold=0.0)
    labels = [make.LABELS[int(row.argmax())] for row in predictor(clips)]
    assert labels == make.LABELS
    assert [(word.start, word.end, word.label) for word in words] == [
        (0.0, 0.5, labels[0]),
        (0.5, 1.0, labels[1]),
        (1.0, 1.5, labels[2]),
    ]
    assert words[2].probability == pytest.approx(predictor(clips)[2].max(), abs=1e-6)
    with pytest.raises(Undecodable, match="in no known format"):
        predictor.listen(b"no sound")
    for hop in (0, -1, 0.6, float("nan")):
        with pytest.raises(ValueError, match=r"hop must be above 0 and at most 0\.5 seconds"):
            predictor.listen(content, hop=hop)


def test_a_short_recording_is_heard_as_it_is_classified(folder: Path, record: Record) -> None:
    """At another rate and shorter than a clip, it has the same probability; the word ends at its end."""
    predictor = Predictor(folder / "model.tflite")
    path = record("short.wav", rate=44100, samples=10000)
    [prediction] = predictor.files([path])
    [word] = predictor.listen(path.read_bytes(), threshold=0.0)
    assert (word.label, word.start) == (prediction.label, 0)
    assert word.end == pytest.approx(10000 / 44100, abs=1e-3)
    assert word.probability == pytest.approx(prediction.probability, abs=1e-6)


def test_a_recording_of_unknown_length_is_a_problem(folder: Path, record: Record) -> None:
    """libsndfile cannot read a FLAC file whose header does not say how long it is, as in a pipe."""
    predictor = Predictor(folder / "model.tflite")
    path = record("x.flac", samples=100_000)
    content = bytearray(path.read_bytes())
    content[21:26] = bytes([content[21] & 0xF0, 0, 0, 0, 0])  # the number of samples in STREAMINFO
    path.write_bytes(content)
    [prediction] = predictor.files([path])
    with pytest.raises(Undecodable, match=re.escape(str(prediction.problem))):
        predictor.listen(bytes(content))


def test_a_sound_that_is_far_too_loud_is_a_problem(folder: Path, tmp_path: Path) -> None:
    """A recording whose probabilities are not numbers has no prediction, and no words."""
    predictor = Predictor(folder / "model.tflite")
    loud = 1e25 * make.waveforms()[0]
    soundfile.write(tmp_path / "loud.wav", loud, 16000, subtype="FLOAT")
    [prediction] = predictor.files([tmp_path / "loud.wav"])
    assert prediction.problem == "is too loud: its probabilities are not numbers"
    with pytest.raises(Undecodable, match="is too loud"):
        predictor.listen((tmp_path / "loud.wav").read_bytes())
    assert predictor(np.zeros((0, 8000), np.float32)).shape == (0, 3)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.tflite", None, r"none\.tflite is missing: correct the path, or run dvc repro"),
        ("x.pt", b"", r"x\.pt is not a model: expected a file that ends in \.tflite"),
        ("x.tflite", b"no model", r"x\.tflite is not a LiteRT model"),
        ("x.onnx", b"no model", r"x\.onnx is not an ONNX model"),
        ("x.keras", b"no model", r"x\.keras does not say what its labels"),
    ],
)
def test_a_file_that_is_no_model_is_an_error(
    name: str, content: bytes | None, message: str, tmp_path: Path
) -> None:
    """The message names the file, and says what was expected."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(PipelineError, match=message):
        Predictor(tmp_path / name)


def test_a_model_without_a_description_or_a_front_end_is_an_error(folder: Path, tmp_path: Path) -> None:
    """LiteRT files that lack this project's metadata, or take features, are refused, and so are folders."""
    content = (folder / "model.tflite").read_bytes()
    (tmp_path / "bare.tflite").write_bytes(content[: content.rindex(b"metadata.json") // 2 * 2 - 60])
    with pytest.raises(PipelineError, match=r"does not say what its labels|is not a LiteRT model"):
        Predictor(tmp_path / "bare.tflite")
    with pytest.raises(PipelineError, match=r"network\.tflite takes features, not waveforms"):
        Predictor(folder / "micro" / "network.tflite")
    with pytest.raises(PipelineError, match="does not say what its labels"):
        Predictor(tmp_path)


@pytest.mark.parametrize("name", ["model.tflite", "model_int8.tflite", "model.onnx", "micro", "model.keras"])
def test_a_damaged_export_is_one_message_or_predicts(folder: Path, tmp_path: Path, name: str) -> None:
    """Of 25 damaged files, each is one message when it is loaded or run, or gives probabilities."""
    file = tmp_path / name
    if name == "micro":
        shutil.copytree(folder / name, file)
        file /= "network.tflite"
    content = (folder / file.relative_to(tmp_path)).read_bytes()
    refused = 0
    for seed in range(25):
        generator = random.Random(seed)  # noqa: S311
        cut = content[: generator.randrange(len(content))]
        file.write_bytes(generator.choice((cut, flipped(content, generator))))
        try:
            probabilities = Predictor(tmp_path / name)(make.waveforms()[:2])
        except PipelineError as error:
            assert "\n" not in str(error)  # noqa: PT017
            refused += 1
        else:
            assert probabilities.shape == (2, 3)
    assert refused > 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ["a", "b", "c", "d"]}, r"returns probabilities of the shape \(1, 3\), expected \(1, 4\)"),
        (
            {"audio": {**make.AUDIO, "duration": 0.4}},
            "fails on waveforms of 6400 samples, which it says that",
        ),
    ],
)
def test_an_export_that_is_not_what_it_says_is_an_error(
    folder: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    """A model that says that it has other labels, or takes other sound, is refused when it is run."""
    shutil.copytree(folder / "micro", tmp_path / "micro")
    described = tmp_path / "micro/metadata.json"
    described.write_text(json.dumps({**json.loads(described.read_text()), **changes}))
    predictor = Predictor(tmp_path / "micro")
    with pytest.raises(PipelineError, match=message):
        predictor(np.zeros((1, predictor.description.audio.samples), np.float32))
